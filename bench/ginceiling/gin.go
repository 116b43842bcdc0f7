// Package ginceiling is the ceiling of an HTTP server with gin: a handler that reads each body and answers 201.
package ginceiling

import (
	"io"
	"net/http"

	"github.com/gin-gonic/gin"
)

// Handler reads the body of POST /v1/records and answers 201 with a short JSON object.
func Handler() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.POST("/v1/records", func(c *gin.Context) {
		if _, err := io.ReadAll(c.Request.Body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		c.Data(http.StatusCreated, "application/json", []byte(`{"block":0,"offset":0}`))
	})
	return e
}
