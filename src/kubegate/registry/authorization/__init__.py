"""The four access reviews: questions about access, asked over the API."""
