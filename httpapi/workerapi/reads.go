package workerapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// readChunk is how many records are read before the size of the answer is checked.
const readChunk = 16

// read answers with records and their proofs, for as many of the places as fit the answer.
func (s *storage) read(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, httpapi.MaxSmallBody)
	if err != nil {
		return err
	}
	places, err := wire.ParsePlaces(body)
	if err != nil {
		return err
	}
	known, err := strconv.Atoi(c.DefaultQuery(wire.ParamKnown, "0"))
	if err != nil || known < 0 || known > len(places) {
		return fmt.Errorf("%w: %s is not within 0 and the number of places, %d",
			wire.ErrBadRequest, wire.ParamKnown, len(places))
	}
	var out []byte
	answers := make([]wire.ProvenRecord, 0, readChunk)
	for len(places) > 0 && len(out) < wire.MaxReadBytes {
		n := min(readChunk, len(places))
		answers = s.node.Read(places[:n], min(n, known), answers[:0])
		places, known = places[n:], max(0, known-n)
		size, fit := len(out), 0
		for ; fit < len(answers) && size < wire.MaxReadBytes; fit++ {
			size += 6 + len(answers[fit].Record) + chain.HashSize*len(answers[fit].Path)
		}
		out = slices.Grow(out, size-len(out))
		for i := range answers[:fit] {
			out = answers[i].AppendTo(out)
		}
	}
	c.Data(http.StatusOK, wire.TypeOctets, out)
	return nil
}

// headers answers with headers and the proofs of their seals.
func (s *storage) headers(c *gin.Context) error {
	from, err1 := strconv.ParseUint(c.Query("from"), 10, 64)
	size, err2 := strconv.ParseUint(c.Query("size"), 10, 64)
	limit, err3 := strconv.Atoi(c.Query("limit"))
	if err := errors.Join(err1, err2, err3); err != nil || limit < 1 || limit > wire.MaxHeaders {
		return fmt.Errorf("%w: from, size and limit (1 to %d) are needed", wire.ErrBadRequest, wire.MaxHeaders)
	}
	headers, err := s.node.Headers(from, limit, size)
	if err != nil {
		return err
	}
	var out []byte
	for i := range headers {
		out = headers[i].AppendTo(out)
	}
	c.Data(http.StatusOK, wire.TypeOctets, out)
	return nil
}

// locate answers with the block of a leaf.
func (s *storage) locate(c *gin.Context) error {
	index, err := httpapi.Number(c, "index", math.MaxUint64)
	if err != nil {
		return err
	}
	block, err := s.node.Locate(index)
	return answer(c)(wire.Located{Block: block}, err)
}

// tiles answers with hashes of the tree.
func (s *storage) tiles(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, httpapi.MaxSmallBody)
	if err != nil {
		return err
	}
	list, err := wire.ParseTiles(body)
	if err != nil {
		return err
	}
	answer := s.node.Tiles(list)
	c.Data(http.StatusOK, wire.TypeOctets, answer.AppendTo(nil))
	return nil
}

// entries answers with the data of leaves, at most those of a tile.
func (s *storage) entries(c *gin.Context) error {
	first, err1 := strconv.ParseUint(c.Query("first"), 10, 64)
	count, err2 := strconv.Atoi(c.Query("count"))
	if err := errors.Join(err1, err2); err != nil || count < 1 || count > wire.TileWidth {
		return fmt.Errorf("%w: first and count (1 to %d) are needed", wire.ErrBadRequest, wire.TileWidth)
	}
	answer, err := s.node.Entries(c.Request.Context(), first, count)
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, wire.TypeOctets, answer.AppendTo(nil))
	return nil
}

// findRecords answers from the index of records.
func (s *storage) findRecords(c *gin.Context, q wire.RecordQuery) error {
	if q.Limit < 1 || q.Limit > wire.MaxHits || q.From >= q.To {
		return fmt.Errorf("%w: limit %d is not within 1 and %d, or from %d is not below to %d",
			wire.ErrBadRequest, q.Limit, wire.MaxHits, q.From, q.To)
	}
	if len(q.Key) > chain.MaxKey {
		return fmt.Errorf("%w: the key has %d bytes, the limit is %d", wire.ErrBadRequest, len(q.Key), chain.MaxKey)
	}
	return answer(c)(s.node.Find(c.Request.Context(), q))
}

// findHash answers with the leaves that may have a hash.
func (s *storage) findHash(c *gin.Context) error {
	hash, err := httpapi.Hash(c)
	if err != nil {
		return err
	}
	return answer(c)(s.node.FindHash(c.Request.Context(), hash))
}
