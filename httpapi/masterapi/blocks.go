package masterapi

import (
	"context"
	"math"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/chain"
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

// blockRoute is the handler of a block's header. Any token of the cluster reads all headers. Without a token a request
// reads the published ones, unless the log is private: the log has them as leaves, and serves no leaf of a bundle
// behind a lost one.
func (m *master) blockRoute() gin.HandlerFunc {
	known := m.withAnyToken(m.block)
	if m.PrivateLog {
		return known
	}
	open := m.Do(m.openRoute(m.publishedBlock))
	return func(c *gin.Context) {
		if c.GetHeader("Authorization") == "" {
			open(c)
		} else {
			known(c)
		}
	}
}

// block is GET /v1/blocks/{block} with a token.
func (m *master) block(c *gin.Context) error { return answerHeader(c, m.node.Block, "private") }

// publishedBlock is GET /v1/blocks/{block} without a token.
func (m *master) publishedBlock(c *gin.Context) error {
	c.Writer.Header().Add("Vary", "Authorization")
	return answerHeader(c, m.node.PublishedBlock, "public")
}

// answerHeader answers with the header of a block. It never changes, so caches of a scope, public or private, may keep
// it.
func answerHeader(
	c *gin.Context, read func(ctx context.Context, number uint64) (chain.Header, error), scope string,
) error {
	n, err := httpapi.Number(c, "block", math.MaxUint64)
	if err != nil {
		return err
	}
	header, err := read(c.Request.Context(), n)
	if err != nil {
		return err
	}
	b := wire.NewBlock(header)
	c.Header("Cache-Control", scope+", max-age=31536000, immutable")
	c.Header("ETag", `"`+b.Hash.String()+`"`)
	c.JSON(http.StatusOK, b)
	return nil
}
