package workerapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// maxOrder bounds an order for a check or a repair, which lists ranges of blocks, in bytes.
const maxOrder = 4 << 20

// obey reads an order of the newest leader and carries it out.
func (s *storage) obey(c *gin.Context, order any, act func() error) error {
	if err := s.order(c); err != nil {
		return err
	}
	body, err := httpapi.ReadBody(c.Request, maxOrder)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, order); err != nil {
		return fmt.Errorf("%w: the body is not the order that this route takes: %w", wire.ErrBadRequest, err)
	}
	// The body may have taken long to arrive: a refusal, or a fence that was raised meanwhile, apply to it too.
	s.taking.RLock()
	defer s.taking.RUnlock()
	if err := s.order(c); err != nil {
		return err
	}
	return act()
}

func (s *storage) check(c *gin.Context) error {
	var order wire.CheckOrder
	return s.obey(c, &order, func() error {
		status, err := s.node.Check(order)
		if err != nil {
			return err
		}
		c.JSON(http.StatusOK, status)
		return nil
	})
}

func (s *storage) receive(c *gin.Context) error {
	var order wire.ReceiveOrder
	return s.obey(c, &order, func() error {
		status, err := s.node.Receive(order)
		if err != nil {
			return err
		}
		status.ID = s.id()
		c.JSON(http.StatusOK, status)
		return nil
	})
}

func (s *storage) send(c *gin.Context) error {
	var order wire.SendOrder
	return s.obey(c, &order, func() error {
		status, err := s.node.Send(order)
		if err != nil {
			return err
		}
		c.JSON(http.StatusOK, status)
		return nil
	})
}

// transfer takes blocks from another storage node until its stream ends. The repair's ticket is the token.
func (s *storage) transfer(c *gin.Context) error {
	ticket, err := httpapi.Bearer(c.Request)
	if err != nil {
		return err
	}
	if err := s.node.Take(c.Request.Context(), ticket, c.Request.Body); errors.Is(err, io.ErrUnexpectedEOF) {
		return httpapi.CutShort(err)
	} else if err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
