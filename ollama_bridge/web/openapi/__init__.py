"""/openapi.json: what every endpoint takes and answers. `document` writes the page; each door describes its own."""
