"""Draw the pictures."""

from tools.outages.pictures import write_pictures

if __name__ == "__main__":
    for name in write_pictures():
        print(f"docs/how-to/outages/{name}")
