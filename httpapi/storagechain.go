package httpapi

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi/wire"
)

// chainStatus tells how far the chain goes, and the highest epoch that an order had.
func (s *storage) chainStatus(c *gin.Context) error {
	at := s.node.Status()
	order, _ := s.gate.fence.Highest()
	c.JSON(http.StatusOK, wire.ChainStatus{ID: s.id(), Group: s.group(), Epoch: order.Epoch, Height: at.Height, Hash: at.Hash})
	return nil
}

// chainBlocks streams blocks as they are on disk. What is wrong with one ends the stream early: the reader verifies each. The cluster token,
// which every miner has, opens them, payloads and all, only while no leader is there whose masters would ask for a project's.
func (s *storage) chainBlocks(c *gin.Context) error {
	from, err1 := strconv.ParseUint(c.Query("from"), 10, 64)
	to, err2 := strconv.ParseUint(c.Query("to"), 10, 64)
	if height := s.node.Status().Height; err1 != nil || err2 != nil || from >= to || to > height {
		return fmt.Errorf("%w: from and to must name blocks within 0 and %d, from before to", errBadRequest, height)
	}
	if err := s.quiet.await(c.Request.Context()); err != nil {
		return err
	}
	c.Header("Content-Type", wire.TypeOctets)
	c.Header("Cache-Control", "no-store")
	var size [4]byte
	return s.node.ReadBlocks(c.Request.Context(), from, to, func(block []byte) error {
		binary.BigEndian.PutUint32(size[:], uint32(len(block)))
		if _, err := c.Writer.Write(size[:]); err != nil {
			return err
		}
		_, err := c.Writer.Write(block)
		return err
	})
}
