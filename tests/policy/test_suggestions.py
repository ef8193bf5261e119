from pixel_llm.policy.suggestions import suggestion


class TestSuggestion:
    def test_in_the_spelling_that_is_known(self):
        """
        Small and capital letters don't matter.
        """
        assert '; did you mean "Shop.Pay"?' == suggestion("shop.pya", ["Mail", "Shop.Pay"])

    def test_nothing_is_close(self):
        """
        Then nothing is said.
        """
        assert "" == suggestion("shop", ["mail", "billing"])

    def test_of_many_names_those_of_about_the_same_length(self):
        """
        Among thousands of names the close one is found, wherever it stands.
        """
        known = [*(f"a-longer-name-{number}" for number in range(20_000)), "zebra"]

        assert '; did you mean "zebra"?' == suggestion("zebar", known)
