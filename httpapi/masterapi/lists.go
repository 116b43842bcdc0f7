package masterapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// list is GET /v1/records: records of a project in order, page by page.
func (m *master) list(c *gin.Context, reader masterfsm.Access) error {
	q, err := queryOf(c)
	if err != nil {
		return err
	}
	if q.Since, err = queryNumber(c, "since", 0, 0, math.MaxUint64); err != nil {
		return err
	}
	if q.Until, err = queryNumber(c, "until", 0, 0, math.MaxUint64); err != nil {
		return err
	}
	limit, err := queryNumber(c, "limit", wire.DefaultPage, 0, wire.MaxPage)
	if err != nil {
		return err
	}
	if cursor := c.Query("cursor"); cursor != "" {
		if c.Query("from") != "" {
			return fmt.Errorf("%w: cursor and from exclude each other", wire.ErrBadRequest)
		}
		if q.From, err = parseCursor(cursor, &q); err != nil {
			return err
		}
	}
	page, err := m.node.List(c.Request.Context(), reader, q, int(limit))
	if err != nil {
		return err
	}
	answer := wire.Records{Records: make([]wire.Record, len(page.Records))}
	for i := range page.Records {
		answer.Records[i] = envelope(&page.Records[i])
	}
	if page.More {
		answer.Next = newCursor(page.Next, &q)
		c.Header("Link", "<"+nextURL(c.Request.URL, answer.Next)+`>; rel="next"`)
	}
	httpapi.AnswerJSON(c, http.StatusOK, answer)
	return nil
}

// queryOf reads the parameters that lists and streams share.
func queryOf(c *gin.Context) (q masternode.Query, err error) {
	q.Project, q.Key = c.Query("project"), c.Query("key")
	if len(q.Key) > chain.MaxKey {
		return q, fmt.Errorf("%w: key has %d bytes, the limit is %d", wire.ErrBadRequest, len(q.Key), chain.MaxKey)
	}
	q.From, err = queryNumber(c, "from", 0, 0, math.MaxUint64)
	return q, err
}

// queryNumber reads a number of the query, or returns missing where it is absent.
func queryNumber(c *gin.Context, name string, missing, lowest, highest uint64) (uint64, error) {
	text := c.Query(name)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < lowest || n > highest {
		return 0, fmt.Errorf("%w: %s=%s is not a whole number from %d to %d",
			wire.ErrBadRequest, name, text, lowest, highest)
	}
	return n, nil
}

// A cursor is base64url of: next u64 ‖ the first 8 bytes of SHA-256 over that and the query. It is valid for that
// query only.
const cursorSize = 8 + 8

func newCursor(next uint64, q *masternode.Query) string {
	cursor := binary.BigEndian.AppendUint64(make([]byte, 0, cursorSize), next)
	return base64.RawURLEncoding.EncodeToString(append(cursor, cursorSum(cursor, q)...))
}

func cursorSum(next []byte, q *masternode.Query) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%x %q %q %d %d", next, q.Project, q.Key, q.Since, q.Until))
	return sum[:8]
}

func parseCursor(text string, q *masternode.Query) (next uint64, err error) {
	cursor, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(cursor) != cursorSize || string(cursor[8:]) != string(cursorSum(cursor[:8], q)) {
		return 0, fmt.Errorf("%w: cursor %q does not come from a page of this query", wire.ErrBadRequest, text)
	}
	return binary.BigEndian.Uint64(cursor), nil
}

// nextURL is the address of the next page.
func nextURL(u *url.URL, cursor string) string {
	query := u.Query()
	query.Del("from")
	query.Set("cursor", cursor)
	return u.Path + "?" + query.Encode()
}

// blockRecords is GET /v1/blocks/{block}/records: the records of a block by their offsets. Of a record that the token
// may not read, only its place is shown.
func (m *master) blockRecords(c *gin.Context, reader masterfsm.Access) error {
	block, err := httpapi.Number(c, "block", math.MaxUint64)
	if err != nil {
		return err
	}
	from, err := queryNumber(c, "from", 0, 0, math.MaxUint32)
	if err != nil {
		return err
	}
	limit, err := queryNumber(c, "limit", wire.DefaultPage, 0, wire.MaxPage)
	if err != nil {
		return err
	}
	list, more, err := m.node.BlockRecords(c.Request.Context(), reader, block, uint32(from), int(limit))
	if err != nil {
		return err
	}
	answer := wire.BlockRecords{Records: make([]wire.BlockRecord, len(list))}
	for i := range list {
		r := &list[i]
		answer.Records[i] = wire.BlockRecord{
			Block: r.At.Block, Offset: r.At.Offset, Index: r.At.Index, Hidden: r.Hidden,
		}
		if !r.Hidden {
			record := envelope(&r.Record)
			answer.Records[i].Record = &record
		}
	}
	if more {
		next := uint32(from) + uint32(len(list))
		answer.Next = &next
	}
	httpapi.AnswerJSON(c, http.StatusOK, answer)
	return nil
}

// findHash is GET /v1/hashes/{hash}.
func (m *master) findHash(c *gin.Context) error {
	hash, err := httpapi.Hash(c)
	if err != nil {
		return err
	}
	return httpapi.Answer(c, http.StatusOK)(m.node.FindHash(c.Request.Context(), hash))
}
