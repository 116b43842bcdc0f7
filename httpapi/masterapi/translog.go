package masterapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// logRoutes adds the routes with which outsiders follow the log, and those that change its keys.
func (m *master) logRoutes() {
	m.GetAndHead("/checkpoint", m.withFollower(m.checkpoint))
	m.GetAndHead("/tile/:level/*index", m.withFollower(m.tile))
	m.GetAndHead("/v1/consistency", m.withFollower(m.consistency))
	m.GET("/v1/log", m.Do(m.openRoute(m.log)))
	m.POST("/v1/log/keys", m.withRole(wire.RoleOperator, m.addLogKey))
	m.DELETE("/v1/log/keys/:id", m.withRole(wire.RoleOperator, m.retireLogKey))
	m.POST("/v1/log/closings", m.withRole(wire.RoleAdmin, m.closeLog))
}

// withFollower is a handler for outsiders that follow the log. It takes no token, or with --private-log any token of
// the cluster.
func (m *master) withFollower(h httpapi.Handler) gin.HandlerFunc {
	if m.PrivateLog {
		return m.withAnyToken(h)
	}
	return m.Do(m.openRoute(h))
}

// openRoute is a handler that takes no token and costs more than its answer, so its requests are limited per address.
func (m *master) openRoute(h httpapi.Handler) httpapi.Handler {
	return func(c *gin.Context) error {
		if err := m.take(m.open, c.Request); err != nil {
			return err
		}
		return h(c)
	}
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

// log is GET /v1/log. It takes no token, even where the log is private: the keys are public.
func (m *master) log(c *gin.Context) error {
	log, err := m.node.Log(c.Request.Context())
	if err != nil {
		return err
	}
	log.Private = m.PrivateLog
	if m.PrivateLog {
		if _, err := m.identify(c.Request); err != nil {
			log.Size, log.Witnesses, log.Closed = nil, nil, nil
		}
	}
	httpapi.AnswerJSON(c, http.StatusOK, log)
	return nil
}

func (m *master) addLogKey(c *gin.Context) error {
	return m.leader.do(c, nil, func() error {
		return httpapi.Answer(c, http.StatusCreated)(m.node.AddLogKey(c.Request.Context()))
	})
}

func (m *master) closeLog(c *gin.Context) error {
	var closing wire.CloseLog
	body, err := httpapi.ReadExact(c, &closing)
	if err != nil {
		return err
	}
	return m.leader.do(c, body, func() error {
		return httpapi.Answer(c, http.StatusCreated)(m.node.CloseLog(c.Request.Context(), closing))
	})
}

func (m *master) retireLogKey(c *gin.Context) error {
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RetireLogKey(c.Request.Context(), c.Param("id")))
	})
}
