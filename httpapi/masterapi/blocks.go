package masterapi

import (
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// defaultPage is the length of a page where the request names no limit.
const defaultPage = 50

// blocks is GET /v1/blocks?cursor=&limit=: mined blocks, the newest first. A cursor is the number of a block; the page
// begins with the block before it.
func (m *master) blocks(c *gin.Context) error {
	before := uint64(math.MaxUint64)
	if cursor := c.Query("cursor"); cursor != "" {
		var err error
		if before, err = strconv.ParseUint(cursor, 10, 64); err != nil {
			return fmt.Errorf("%w: cursor %q does not come from a page", wire.ErrBadRequest, cursor)
		}
	}
	limit, err := strconv.Atoi(c.DefaultQuery("limit", strconv.Itoa(defaultPage)))
	if err != nil || limit < 1 || limit > masternode.MaxBlocksPage {
		return fmt.Errorf("%w: limit %q is not a number from 1 to %d",
			wire.ErrBadRequest, c.Query("limit"), masternode.MaxBlocksPage)
	}
	headers, err := m.node.Blocks(c.Request.Context(), before, limit)
	if err != nil {
		return err
	}
	page := wire.Blocks{Blocks: make([]wire.Block, len(headers))}
	for i, h := range headers {
		page.Blocks[i] = wire.NewBlock(h)
	}
	if n := len(headers); n > 0 && headers[n-1].Block > 0 {
		page.Next = strconv.FormatUint(headers[n-1].Block, 10)
	}
	c.JSON(http.StatusOK, page)
	return nil
}

// block is GET /v1/blocks/{block}. A mined block never changes.
func (m *master) block(c *gin.Context) error {
	n, err := httpapi.Number(c, "block", math.MaxUint64)
	if err != nil {
		return err
	}
	header, err := m.node.Block(c.Request.Context(), n)
	if err != nil {
		return err
	}
	b := wire.NewBlock(header)
	c.Header("Cache-Control", "private, max-age=31536000, immutable")
	c.Header("ETag", `"`+b.Hash.String()+`"`)
	c.JSON(http.StatusOK, b)
	return nil
}
