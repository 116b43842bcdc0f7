package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/wire"
)

// tiles answers with hashes of the tree.
func (s *storage) tiles(c *gin.Context) error {
	body, err := readBody(c.Request, maxSmallBody)
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

// entries answers with the data of leaves, at most a tile's.
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
