package workerapi

import (
	"context"
	"errors"
	"math"

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
func (s *storage) takeBlock(
	c *gin.Context, take func(context.Context, uint64, []byte) (storagenode.Status, error),
) error {
	n, err := httpapi.Number(c, "block", math.MaxUint64)
	if err != nil {
		return err
	}
	var at storagenode.Status
	err = s.carryOut(c, maxBlock, func(ctx context.Context, block []byte) (err error) {
		//mutant:take-block
		at, err = take(ctx, n, block)
		if err := s.ready(); err != nil {
			return err // refused meanwhile: what the node has is not acknowledged
		}
		if errors.Is(err, wire.ErrNotNext) {
			return &wire.NotNextError{Status: s.wireStatus(c, at), Err: err}
		}
		return err
	})
	return answer(c)(s.wireStatus(c, at), err)
}
