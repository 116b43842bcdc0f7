package masterapi

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/transparency-dev/formats/proof"

	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// proof is the proof of a record: as JSON, or as text of C2SP tlog-proof for a client that prefers text.
func (m *master) proof(c *gin.Context, r masternode.Record) error {
	h := c.Writer.Header()
	if !wantsText(c.GetHeader("Accept")) {
		p, err := m.node.Prove(c.Request.Context(), r)
		if err != nil {
			return err
		}
		h.Add("Vary", "Accept, Authorization")
		h.Set("Cache-Control", "private, no-cache")
		c.JSON(http.StatusOK, p)
		return nil
	}
	p, err := m.node.LogProof(c.Request.Context(), r)
	if err != nil {
		return err
	}
	text := proof.TLogProof{Index: p.Index, Hashes: make([][32]byte, len(p.Path)), Checkpoint: p.Note}
	for i, hash := range p.Path {
		text.Hashes[i] = hash
	}
	h.Add("Vary", "Accept, Authorization")
	h.Set("Cache-Control", "private, no-cache")
	c.Data(http.StatusOK, wire.TypeNote, text.Marshal())
	return nil
}

// receipt is the receipt of a record.
func (m *master) receipt(c *gin.Context, r masternode.Record) error {
	receipt, err := m.node.Receipt(c.Request.Context(), r)
	if err != nil {
		return err
	}
	c.Header("Cache-Control", "private, no-cache")
	c.JSON(http.StatusOK, receipt)
	return nil
}
