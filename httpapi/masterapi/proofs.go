package masterapi

import (
	"encoding/json"
	"math"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/transparency-dev/formats/proof"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// ofRecord is a handler for the record that the path names, by its index or its place, for who may read it.
func (m *master) ofRecord(answer func(c *gin.Context, r masternode.Record) error) func(c *gin.Context, reader masterfsm.Access) error {
	return func(c *gin.Context, reader masterfsm.Access) error {
		var r masternode.Record
		if c.Param("index") != "" {
			index, err := httpapi.Number(c, "index", math.MaxUint64)
			if err != nil {
				return err
			}
			if r, err = m.node.RecordByIndex(c.Request.Context(), reader, index); err != nil {
				return err
			}
		} else {
			block, offset, err := placeOf(c)
			if err != nil {
				return err
			}
			if r, err = m.node.Record(c.Request.Context(), reader, block, offset); err != nil {
				return err
			}
		}
		return answer(c, r)
	}
}

// proof is the proof of a record: our own as JSON, or C2SP's tlog-proof for who would rather have text.
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

// withReceipt puts a receipt into the position that an append answers. The record is appended: what is wrong with the receipt does not make that an error.
func (m *master) withReceipt(position []byte, receipt *wire.Receipt) []byte {
	encoded, err := json.Marshal(receipt)
	if err != nil {
		m.Log.Error("a receipt cannot be encoded", "index", receipt.Index, "error", err)
		return position
	}
	position = append(position[:len(position)-1], `,"receipt":`...)
	return append(append(position, encoded...), '}')
}
