// Starts Swagger UI on /docs. Kept beside its bundle, because the page's policy allows no script in the page itself.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null, // asks nobody else
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
});
