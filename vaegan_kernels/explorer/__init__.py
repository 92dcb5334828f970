"""The explorer: a page in the browser that looks into trained models, and the server behind it."""
