"""One file a format: folders of images, packed files, and public data sets in their official files."""
