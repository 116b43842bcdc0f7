package masterapi

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// withRecord is a handler of the record that the path names by its index or its place, if the caller may read it.
func (m *master) withRecord(h func(c *gin.Context, r masternode.Record) error) gin.HandlerFunc {
	return m.withReader(func(c *gin.Context, reader masterfsm.Access) error {
		r, err := m.recordOf(c, reader)
		if err != nil {
			return err
		}
		return h(c, r)
	})
}

func (m *master) recordOf(c *gin.Context, reader masterfsm.Access) (masternode.Record, error) {
	if c.Param("index") != "" {
		index, err := httpapi.Number(c, "index", math.MaxUint64)
		if err != nil {
			return masternode.Record{}, err
		}
		return m.node.RecordByIndex(c.Request.Context(), reader, index)
	}
	block, err := httpapi.Number(c, "block", math.MaxUint64)
	offset, badOffset := httpapi.Number(c, "offset", math.MaxUint32)
	if err = cmp.Or(err, badOffset); err != nil {
		return masternode.Record{}, err
	}
	return m.node.Record(c.Request.Context(), reader, block, uint32(offset))
}

// record answers with the payload as it is, or the part of it that a Range header asks for, or with the envelope for a
// client that prefers JSON. The whole record was proven, also for a part. The payload is data
// of a user: the headers that every answer has tell a browser not to guess its type and to run nothing in it.
func (m *master) record(c *gin.Context, r masternode.Record) error {
	position := r.Position()
	h := c.Writer.Header()
	h.Add("Vary", "Accept, Authorization")
	typ := r.Type
	if typ == "" || !wire.FitsHeader(typ) {
		typ = wire.TypeOctets // the envelope has the type as it is
	}
	asEnvelope := wantsJSON(c.GetHeader("Accept"), typ)
	h.Set("Cache-Control", privateNoCache)
	if r.Sealed {
		tag := `"` + r.Leaf.String() + `"`
		if asEnvelope {
			// The envelope's state changes from committed to stored, and its tag with it.
			tag = `"` + r.Leaf.String() + "-" + position.State + `"`
		}
		if !asEnvelope || r.Stored {
			h.Set("Cache-Control", "private, max-age=31536000, immutable")
		}
		if httpapi.Unchanged(c, tag) {
			return nil
		}
	}
	if asEnvelope {
		c.JSON(http.StatusOK, envelope(&r))
		return nil
	}
	return httpapi.AnswerContent(c, typ, r.Payload, func(h http.Header) {
		h.Set(wire.HeaderPosition, fmt.Sprintf("%d/%d/%d", position.Block, position.Offset, position.Index))
		h.Set(wire.HeaderTime, strconv.FormatUint(position.Time, 10))
		h.Set(wire.HeaderLeaf, position.Leaf.String())
		if r.Key != "" && wire.FitsHeader(r.Key) {
			h.Set(wire.HeaderKey, r.Key)
		}
	})
}

// envelope is the form of a record on the wire.
func envelope(r *masternode.Record) wire.Record {
	return wire.Record{
		Position: r.Position(), Project: r.ProjectName, ProjectID: r.Project, Key: r.Key, Type: r.Type,
		Size: uint32(len(r.Payload)), Salt: r.Salt[:], Commit: r.Commit, Payload: r.Payload,
	}
}
