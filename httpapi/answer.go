package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// AnswerJSON answers with a value that may have changed by the next request.
func AnswerJSON(c *gin.Context, status int, v any) {
	c.Header("Cache-Control", "no-store")
	c.JSON(status, v)
}

// Answer takes the result of a call, as in Answer(c, http.StatusOK)(node.Tokens(ctx, id)). It answers with the value as
// AnswerJSON does, or returns the error.
func Answer(c *gin.Context, status int) func(v any, err error) error {
	return AnswerWith(c, status, "no-store")
}

// AnswerWith is Answer with another Cache-Control header.
func AnswerWith(c *gin.Context, status int, cacheControl string) func(v any, err error) error {
	return func(v any, err error) error {
		if err == nil {
			c.Header("Cache-Control", cacheControl)
			c.JSON(status, v)
		}
		return err
	}
}

// ETag is the entity tag of an answer with that content.
func ETag(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// Unchanged sets the entity tag of the answer. If the client has that content already, it answers 304 and returns true.
func Unchanged(c *gin.Context, tag string) bool {
	c.Header("ETag", tag)
	if !strings.Contains(c.GetHeader("If-None-Match"), tag) {
		return false
	}
	c.Status(http.StatusNotModified)
	return true
}
