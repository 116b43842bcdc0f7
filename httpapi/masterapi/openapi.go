package masterapi

import (
	_ "embed"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
)

// openAPI describes the API of users, in OpenAPI 3.1. The tests validate all their requests and answers against it.
//
//go:embed openapi.yaml
var openAPI []byte

var openAPITag = httpapi.ETag(openAPI)

// typeYAML is the media type of RFC 9512.
const typeYAML = "application/yaml"

// description is GET /openapi.yaml. It takes no token: the document has no secret, and a tool reads it before it has a
// token.
func description(c *gin.Context) {
	c.Header("Cache-Control", "no-cache") // cached, and revalidated: another version of the server has another document
	if !httpapi.Unchanged(c, openAPITag) {
		c.Data(http.StatusOK, typeYAML, openAPI)
	}
}
