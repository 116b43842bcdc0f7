package workerapi

import (
	"errors"
	"math"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// maxBlock bounds a block's bytes: the largest buffer that can be configured, and one record more.
const maxBlock = 256 << 20

func (s *storage) put(c *gin.Context) error { return s.takeBlock(c, s.node.Put) }

func (s *storage) putInbox(c *gin.Context) error { return s.takeBlock(c, s.node.PutInbox) }

// takeBlock stores the block of the body with take, and answers with what the node has then.
func (s *storage) takeBlock(c *gin.Context, take func(uint64, []byte) (storagenode.Status, error)) error {
	n, err := httpapi.Number(c, "block", math.MaxUint64)
	if err != nil {
		return err
	}
	if err := s.order(c); err != nil {
		return err
	}
	block, err := httpapi.ReadBody(c.Request, maxBlock)
	if err != nil {
		return err
	}
	// The body may have taken long to arrive: a refusal, or a fence that was raised meanwhile, apply to it too.
	s.taking.RLock()
	defer s.taking.RUnlock()
	if err := s.order(c); err != nil {
		return err
	}
	//mutant:take-block
	at, err := take(n, block)
	if err := s.ready(); err != nil {
		return err // refused meanwhile: what the node has is not acknowledged
	}
	if errors.Is(err, wire.ErrNotNext) {
		return &wire.NotNextError{Status: s.wireStatus(at), Err: err}
	}
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, s.wireStatus(at))
	return nil
}
