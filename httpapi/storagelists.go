package httpapi

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// findRecords answers from the node's index of records.
func (s *storage) findRecords(c *gin.Context) error {
	var q wire.RecordQuery
	if err := readJSON(c, &q); err != nil {
		return err
	}
	if q.Limit < 1 || q.Limit > wire.MaxHits || q.From >= q.To {
		return fmt.Errorf("%w: limit %d is not within 1 and %d, or from %d is not below to %d", wire.ErrBadRequest, q.Limit, wire.MaxHits, q.From, q.To)
	}
	if len(q.Key) > chain.MaxKey {
		return fmt.Errorf("%w: the key has %d bytes, the limit is %d", wire.ErrBadRequest, len(q.Key), chain.MaxKey)
	}
	hits, err := s.node.Find(c.Request.Context(), q)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, hits)
	return nil
}

// findHash tells the leaves that may have a hash.
func (s *storage) findHash(c *gin.Context) error {
	hash, err := hashParam(c)
	if err != nil {
		return err
	}
	hits, err := s.node.FindHash(c.Request.Context(), hash)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, hits)
	return nil
}

// hashParam reads the hash of the path.
func hashParam(c *gin.Context) (h chain.Hash, err error) {
	if err := h.UnmarshalText([]byte(c.Param("hash"))); err != nil {
		return h, fmt.Errorf("%w: hash: %w", wire.ErrBadRequest, err)
	}
	return h, nil
}
