"""Routes of the product-photo service that this system replaces."""
