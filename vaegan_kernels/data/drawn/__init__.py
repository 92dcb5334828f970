"""The built-in data set: faces drawn from random traits."""
