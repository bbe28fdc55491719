"""The Django project behind `make demo` and `make demo-serve`."""
