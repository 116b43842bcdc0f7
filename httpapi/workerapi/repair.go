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

// obey is the handler that reads an order of the newest leader, carries it out and answers with what became of it.
func obey[O, A any](s *storage, act func(O) (A, error)) httpapi.Handler {
	return func(c *gin.Context) error {
		if err := s.order(c); err != nil {
			return err
		}
		body, err := httpapi.ReadBody(c.Request, maxOrder)
		if err != nil {
			return err
		}
		var order O
		if err := json.Unmarshal(body, &order); err != nil {
			return fmt.Errorf("%w: the body is not the order that this route takes: %w", wire.ErrBadRequest, err)
		}
		// The body may have taken long to arrive: a refusal, or a fence that was raised meanwhile, apply to it too.
		s.taking.RLock()
		defer s.taking.RUnlock()
		if err := s.order(c); err != nil {
			return err
		}
		status, err := act(order)
		return answer(c, status, err)
	}
}

func (s *storage) receive(order wire.ReceiveOrder) (wire.ReceiveStatus, error) {
	status, err := s.node.Receive(order)
	status.ID = s.id()
	return status, err
}

// answer answers with JSON unless there is an error.
func answer[T any](c *gin.Context, v T, err error) error {
	if err == nil {
		c.JSON(http.StatusOK, v)
	}
	return err
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
