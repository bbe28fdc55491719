"""A Django project whose tasks write down what happens to them."""
