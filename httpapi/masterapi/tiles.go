package masterapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// entriesLevel is in a path at the place of a tile's level.
const entriesLevel = "entries"

// tile is GET /tile/{level}/{index} (C2SP tlog-tiles): a tile of hashes, or with the level "entries" a bundle of
// leaves.
func (m *master) tile(c *gin.Context) error {
	level, index, width, err := parseTile(c.Param("level"), strings.TrimPrefix(c.Param("index"), "/"))
	if err != nil {
		return err
	}
	var data []byte
	if c.Param("level") == entriesLevel {
		data, err = m.node.Entries(c.Request.Context(), index, width)
	} else {
		data, err = m.node.Tile(c.Request.Context(), level, index, width)
	}
	if err != nil {
		return err
	}
	m.answerFinal(c, data)
	return nil
}

// parseTile reads a path in the form that layout writes, and in no other form: a tile has one address.
func parseTile(level, text string) (l, index uint64, width int, err error) {
	var partial uint8
	var same bool
	if level == entriesLevel {
		index, partial, err = layout.ParseTileIndexPartial(text)
		same = layout.EntriesPath(index, partial) == "tile/entries/"+text
	} else {
		l, index, partial, err = layout.ParseTileLevelIndexPartial(level, text)
		same = layout.TilePath(l, index, partial) == "tile/"+level+"/"+text
	}
	if err == nil && !same {
		err = errors.New("its numbers have other zeros")
	}
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%w: /tile/%s/%s: %w; write a tile like /tile/0/x001/x234/067 or "+
			"/tile/entries/003.p/17, see https://c2sp.org/tlog-tiles", wire.ErrBadRequest, level, text, err)
	}
	if width = int(partial); width == 0 {
		width = wire.TileWidth
	}
	return l, index, width, nil
}

// answerFinal answers with data that never changes.
func (m *master) answerFinal(c *gin.Context, data []byte) {
	h := c.Writer.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	if m.PrivateLog {
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
		h.Add("Vary", "Authorization")
	}
	if httpapi.Unchanged(c, httpapi.ETag(data)) {
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	c.Data(http.StatusOK, wire.TypeOctets, data)
}

// consistency is GET /v1/consistency.
func (m *master) consistency(c *gin.Context) error {
	if c.Query("from") == "" {
		return fmt.Errorf("%w: from is needed: the size of the tree that the client knows", wire.ErrBadRequest)
	}
	from, err := queryNumber(c, "from", 0, 0, math.MaxUint64)
	if err != nil {
		return err
	}
	var to *uint64
	if c.Query("to") != "" {
		size, err := queryNumber(c, "to", 0, 0, math.MaxUint64)
		if err != nil {
			return err
		}
		to = &size
	}
	return httpapi.AnswerWith(c, http.StatusOK, "no-cache")(m.node.Consistency(c.Request.Context(), from, to))
}
