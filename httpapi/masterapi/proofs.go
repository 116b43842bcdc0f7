package masterapi

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/transparency-dev/formats/proof"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// privateNoCache is the Cache-Control of an answer that depends on the token and may change.
const privateNoCache = "private, no-cache"

// proof is the proof of a record: as JSON, or as text of C2SP tlog-proof for a client that prefers text.
func (m *master) proof(c *gin.Context, r masternode.Record) error {
	c.Writer.Header().Add("Vary", "Accept, Authorization")
	if !wantsText(c.GetHeader("Accept")) {
		return httpapi.AnswerWith(c, http.StatusOK, privateNoCache)(m.node.Prove(c.Request.Context(), r))
	}
	p, err := m.node.LogProof(c.Request.Context(), r)
	if err != nil {
		return err
	}
	text := proof.TLogProof{Index: p.Index, Hashes: make([][32]byte, len(p.Path)), Checkpoint: p.Note}
	for i, hash := range p.Path {
		text.Hashes[i] = hash
	}
	c.Header("Cache-Control", privateNoCache)
	c.Data(http.StatusOK, wire.TypeNote, text.Marshal())
	return nil
}

// receipt is the receipt of a record.
func (m *master) receipt(c *gin.Context, r masternode.Record) error {
	return httpapi.AnswerWith(c, http.StatusOK, privateNoCache)(m.node.Receipt(c.Request.Context(), r))
}
