package masterapi

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// openAPI describes the API of users, in OpenAPI 3.1. The tests validate all their requests and answers against it.
//
//go:embed openapi.yaml
var openAPI []byte

// openAPITag is its ETag.
var openAPITag = func() string {
	sum := sha256.Sum256(openAPI)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}()

// typeYAML is the media type of RFC 9512.
const typeYAML = "application/yaml"

// description is GET /openapi.yaml. It takes no token: the document has no secret, and a tool reads it before it has a
// token.
func description(c *gin.Context) {
	c.Header("ETag", openAPITag)
	c.Header("Cache-Control", "no-cache") // cached, and revalidated: another version of the server has another document
	c.Header("X-Content-Type-Options", "nosniff")
	if strings.Contains(c.GetHeader("If-None-Match"), openAPITag) {
		c.Status(http.StatusNotModified)
		return
	}
	c.Data(http.StatusOK, typeYAML, openAPI)
}
