"""The event reference: a page over the AsyncAPI document."""
