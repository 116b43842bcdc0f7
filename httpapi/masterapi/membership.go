package masterapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// announce takes another master's word of who it is, and lets it in where it is new.
func (m *master) announce(c *gin.Context) error {
	var member wire.Member
	if err := httpapi.ReadJSON(c, &member); err != nil {
		return err
	}
	announced, err := m.node.Announce(c.Request.Context(), member, c.GetHeader(wire.HeaderHops) != "")
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, announced)
	return nil
}

func (m *master) removeMaster(c *gin.Context) error {
	force, err := forced(c)
	if err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		if err := m.node.RemoveMaster(c.Request.Context(), c.Param("id"), force); err != nil {
			return err
		}
		c.Status(http.StatusNoContent)
		return nil
	})
}

// forced reads the query's force.
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
		if err != nil {
			return err
		}
		c.JSON(http.StatusOK, wire.Transferred{Leader: leader})
		return nil
	})
}

func (m *master) stateHash(c *gin.Context) error {
	hash, err := m.node.StateHash()
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, hash)
	return nil
}
