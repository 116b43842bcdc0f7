package masterapi

import (
	"math"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// blocks is GET /v1/blocks?cursor=&limit=: mined blocks, the newest first. A cursor is the number of a block; the page
// begins with the block before it.
func (m *master) blocks(c *gin.Context) error {
	before, err := queryNumber(c, "cursor", math.MaxUint64, 0, math.MaxUint64)
	if err != nil {
		return err
	}
	limit, err := queryNumber(c, "limit", wire.DefaultPage, 1, masternode.MaxBlocksPage)
	if err != nil {
		return err
	}
	headers, err := m.node.Blocks(c.Request.Context(), before, int(limit))
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
