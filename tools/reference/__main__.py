"""Write the reference pages."""

from tools.reference.pages import write_pages

if __name__ == "__main__":
    for name in write_pages():
        print(f"docs/reference/{name}")
