package workerapi

import (
	"context"
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

// obey is the handler that carries out an order of the newest leader with act, and answers with the result.
func obey[O, A any](s *storage, act func(context.Context, O) (A, error)) httpapi.Handler {
	return func(c *gin.Context) error {
		var result A
		err := s.carryOut(c, maxOrder, func(ctx context.Context, body []byte) error {
			var order O
			err := json.Unmarshal(body, &order)
			if err != nil {
				return fmt.Errorf("%w: the body is not the order that this route takes: %w", wire.ErrBadRequest, err)
			}
			result, err = act(ctx, order)
			return err
		})
		return answer(c)(result, err)
	}
}

func (s *storage) receive(ctx context.Context, order wire.ReceiveOrder) (wire.ReceiveStatus, error) {
	status, err := s.node.Receive(ctx, order)
	status.ID = s.id()
	return status, err
}

// answer returns a function that answers with the result of a call as JSON, or returns the call's error.
func answer(c *gin.Context) func(v any, err error) error {
	return httpapi.Answer(c, http.StatusOK)
}

// transfer takes blocks from another storage node until its stream ends. The repair's ticket is the token.
func (s *storage) transfer(c *gin.Context) error {
	ticket, err := httpapi.Bearer(c.Request)
	if err != nil {
		return err
	}
	httpapi.SlowBody(c.Request) // the other node sends at the rate of the repair
	if err := s.node.Take(c.Request.Context(), ticket, c.Request.Body); errors.Is(err, io.ErrUnexpectedEOF) {
		return httpapi.CutShort(err)
	} else if err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
