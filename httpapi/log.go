package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi/wire"
)

// logRoutes are the routes by which outsiders follow the log.
func (m *master) logRoutes() {
	m.GET("/checkpoint", m.withFollower(m.checkpoint))
	m.HEAD("/checkpoint", m.withFollower(m.checkpoint))
	m.GET("/tile/:level/*index", m.withFollower(m.tile))
	m.HEAD("/tile/:level/*index", m.withFollower(m.tile))
	m.GET("/v1/consistency", m.withFollower(m.consistency))
}

// withFollower is a handler for whoever follows the log: everybody, or with --private-log whoever has a token of the cluster.
func (m *master) withFollower(h handler) gin.HandlerFunc {
	if m.privateLog {
		return m.withAnyToken(h)
	}
	return m.do(h)
}

// checkpoint is GET /checkpoint (C2SP tlog-tiles).
func (m *master) checkpoint(c *gin.Context) error {
	checkpoint, err := m.node.Checkpoint(c.Request.Context())
	if err != nil {
		return err
	}
	c.Header("Cache-Control", "no-cache")
	c.Data(http.StatusOK, wire.TypeNote, checkpoint.Note)
	return nil
}
