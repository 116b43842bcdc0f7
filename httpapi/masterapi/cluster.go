package masterapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// clusterRoutes adds the routes of the cluster's status, of its integrity, and of the administration of its nodes.
func (m *master) clusterRoutes() {
	m.GET("/v1/cluster", m.withAnyToken(m.clusterStatus))
	m.GET("/v1/cluster/integrity", m.withAnyToken(m.integrity))
	m.POST("/v1/cluster/integrity/confirm-lost", m.withAdmin(m.confirmLost))
	m.POST("/v1/storages/:id/check", m.withAdmin(m.checkStorage))
	m.DELETE("/v1/storages/:id", m.withAdmin(m.removeStorage))
	m.DELETE("/v1/masters/:id", m.withAdmin(m.removeMaster))
	m.POST("/v1/leader/transfer", m.withAdmin(m.transferLeadership))
}

func (m *master) clusterStatus(c *gin.Context) error {
	httpapi.AnswerJSON(c, http.StatusOK, m.node.Cluster(c.Request.Context()))
	return nil
}

func (m *master) integrity(c *gin.Context) error {
	httpapi.AnswerJSON(c, http.StatusOK, m.node.Integrity(c.Request.Context()))
	return nil
}

// checkStorage makes a check of the node due at once. The integrity shows its progress.
func (m *master) checkStorage(c *gin.Context) error {
	return m.leader.do(c, nil, func() error {
		node, err := m.node.CheckStorage(c.Request.Context(), c.Param("id"))
		return answer(c, http.StatusAccepted, node, err)
	})
}

func (m *master) confirmLost(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, httpapi.MaxSmallBody)
	if err != nil {
		return err
	}
	var lost wire.LostBlock
	if err := json.Unmarshal(body, &lost); err != nil || lost.Block == nil {
		return fmt.Errorf(`%w: the body must be {"block": number}`, wire.ErrBadRequest)
	}
	return m.leader.do(c, body, func() error {
		integrity, err := m.node.ConfirmLost(c.Request.Context(), *lost.Block)
		return answer(c, http.StatusOK, integrity, err)
	})
}

func (m *master) removeStorage(c *gin.Context) error {
	force, err := forced(c)
	if err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RemoveStorage(c.Request.Context(), c.Param("id"), force))
	})
}

func (m *master) removeMaster(c *gin.Context) error {
	force, err := forced(c)
	if err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RemoveMaster(c.Request.Context(), c.Param("id"), force))
	})
}

// forced reads ?force= of the query.
func forced(c *gin.Context) (bool, error) {
	switch force := c.Query("force"); force {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, fmt.Errorf("%w: force is true or false, not %q", wire.ErrBadRequest, force)
	}
}

func (m *master) transferLeadership(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, httpapi.MaxSmallBody)
	if err != nil {
		return err
	}
	var to wire.Transfer
	if len(body) > 0 {
		if err := json.Unmarshal(body, &to); err != nil {
			return fmt.Errorf(`%w: the body is empty or {"to": "a master's id or URL"}: %w`, wire.ErrBadRequest, err)
		}
	}
	return m.leader.do(c, body, func() error {
		leader, err := m.node.TransferLeadership(c.Request.Context(), to.To)
		return answer(c, http.StatusOK, wire.Transferred{Leader: leader}, err)
	})
}
