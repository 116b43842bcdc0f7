package masterapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

func (m *master) integrity(c *gin.Context) error {
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, m.node.Integrity(c.Request.Context()))
	return nil
}

func (m *master) leaderIntegrity(c *gin.Context) error {
	story, err := m.node.LeaderIntegrity(c.Request.Context())
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, story)
	return nil
}

func (m *master) suspect(c *gin.Context) error {
	var s wire.Suspicion
	if err := httpapi.ReadJSON(c, &s); err != nil {
		return err
	}
	if s.ID == "" || s.Cause == "" {
		return fmt.Errorf("%w: id and cause are needed", wire.ErrBadRequest)
	}
	if err := m.node.Suspect(c.Request.Context(), s); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// checkStorage makes a check of the node due at once; how it goes is told by the integrity.
func (m *master) checkStorage(c *gin.Context) error {
	return m.leader.do(c, nil, func() error {
		node, err := m.node.CheckStorage(c.Request.Context(), c.Param("id"))
		if err != nil {
			return err
		}
		c.Header("Cache-Control", "no-store")
		c.JSON(http.StatusAccepted, node)
		return nil
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
		story, err := m.node.ConfirmLost(c.Request.Context(), *lost.Block)
		if err != nil {
			return err
		}
		c.Header("Cache-Control", "no-store")
		c.JSON(http.StatusOK, story)
		return nil
	})
}

func (m *master) removeStorage(c *gin.Context) error {
	force, err := forced(c)
	if err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		if err := m.node.RemoveStorage(c.Request.Context(), c.Param("id"), force); err != nil {
			return err
		}
		c.Status(http.StatusNoContent)
		return nil
	})
}
