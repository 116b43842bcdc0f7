package workerapi

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/wire"
)

// chainStatus is the height of the chain and the highest epoch of an order.
func (s *storage) chainStatus(c *gin.Context) error {
	c.JSON(http.StatusOK, s.ofChain())
	return nil
}

func (s *storage) ofChain() wire.ChainStatus {
	at := s.node.Status()
	order, _ := s.gate.fence.Highest()
	last, ordered := s.leader.sign()
	millis := uint64(time.Since(last).Milliseconds())
	return wire.ChainStatus{
		ID: s.id(), Group: s.group(), Epoch: order.Epoch, LedEpoch: s.gate.fence.LedEpoch(),
		Height: at.Height, Hash: at.Hash, QuietMillis: &millis, Ordered: ordered, TLS: s.mode.Step(),
	}
}

// newEpoch raises the fence for a recovery, if no leader has given an order for a while. It answers with the chain that
// the node has afterwards, when no order of an older leader can change it.
func (s *storage) newEpoch(c *gin.Context, order wire.NewEpoch) error {
	if order.Group == "" || order.Epoch == 0 || order.Claim == "" {
		return fmt.Errorf("%w: group, epoch and claim are needed", wire.ErrBadRequest)
	}
	if own := s.group(); own != "" && own != order.Group {
		return fmt.Errorf("%w: %s, not %s", worker.ErrOtherCluster, own, order.Group)
	}
	highest, _ := s.gate.fence.Highest()
	if order.Epoch > highest.Epoch && order.Epoch-highest.Epoch > wire.MaxEpochAhead {
		return fmt.Errorf("%w: epoch %d is more than %d above the %d of this node: no recovery raises it that far",
			wire.ErrBadRequest, order.Epoch, wire.MaxEpochAhead, highest.Epoch)
	}
	var failed error
	var at wire.ChainStatus
	err := s.gate.fence.Raise(order.Epoch, order.Claim,
		func() error { return s.leader.lasts(s.silence) },
		func() error { // orders that passed the fence before are on disk, or refused
			failed = s.begin(c.Request.Context(), order)
			at = s.ofChain()
			return nil
		})
	if err != nil && !errors.Is(err, wire.ErrFenced) && !errors.Is(err, wire.ErrForbidden) {
		s.gate.failed(err)
	}
	return answer(c)(at, cmp.Or(err, failed))
}

// begin ends what older leaders ordered, and sets blocks aside if a new epoch says so.
func (s *storage) begin(ctx context.Context, order wire.NewEpoch) error {
	if err := s.node.Interrupt(); err != nil { // a check or repair of an older leader
		return err
	}
	if order.Keep != nil {
		return s.setAside(ctx, order, *order.Keep)
	}
	return nil
}

// setAside moves the blocks from a number on to the quarantine, and with them those that wait in the inbox.
func (s *storage) setAside(ctx context.Context, order wire.NewEpoch, keep uint64) error {
	for try := 0; s.node.Status().Height > keep; try++ {
		ticket := fmt.Sprintf("recovery-%d-%s-%d", order.Epoch, order.Claim, try)
		if _, err := s.node.Receive(ctx, wire.ReceiveOrder{Ticket: ticket, Keep: keep}); err != nil {
			return err
		}
	}
	return nil
}

// chainBlocks streams blocks as they are on disk. A block that cannot be read ends the stream early: the reader
// verifies each. Every miner has the cluster token, so it opens the blocks, payloads included, only while there is no
// leader. While there is one, its masters ask for a project's token.
func (s *storage) chainBlocks(c *gin.Context) error {
	from, err1 := strconv.ParseUint(c.Query("from"), 10, 64)
	to, err2 := strconv.ParseUint(c.Query("to"), 10, 64)
	if height := s.node.Status().Height; err1 != nil || err2 != nil || from >= to || to > height {
		return fmt.Errorf("%w: from and to must name blocks from 0 to %d, from before to", wire.ErrBadRequest, height)
	}
	if err := s.leader.await(c.Request.Context()); err != nil {
		return err
	}
	c.Header("Content-Type", wire.TypeOctets)
	return s.node.ReadBlocks(c.Request.Context(), from, to, func(block []byte) error {
		if err := binary.Write(c.Writer, binary.BigEndian, uint32(len(block))); err != nil {
			return err
		}
		_, err := c.Writer.Write(block)
		return err
	})
}
