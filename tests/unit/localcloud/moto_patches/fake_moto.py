"""A module that stands for one of moto's."""


class Backend:
    """A class that is patched."""

    name = "moto"
    limit = 10

    def greet(self, name: str) -> str:
        return f"hello {name}"
