package httpapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/wire"
)

// AnswerContent answers with content whose entity tag, if it has one, is in the ETag header. It answers a GET that asks
// for one range of bytes with that part (RFC 9110, section 14). Several ranges are answered with everything, which
// section 14.2 permits. describe sets the headers of the content. The error wraps wire.ErrRange if no byte of the range
// exists; describe is not called then.
func AnswerContent(c *gin.Context, typ string, content []byte, describe func(http.Header)) error {
	h := c.Writer.Header()
	h.Set("Accept-Ranges", "bytes")
	part, asked, err := requestedPart(c.Request, h.Get("ETag"), len(content))
	if err != nil {
		h.Del("ETag")
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", len(content)))
		return err
	}
	describe(h)
	if !asked {
		c.Data(http.StatusOK, typ, content)
		return nil
	}
	h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.first, part.end-1, len(content)))
	c.Data(http.StatusPartialContent, typ, content[part.first:part.end])
	return nil
}

// part is a part of a content: the bytes from first up to but not including end.
type part struct{ first, end int }

// requestedPart returns the part of a content of size bytes that a request asks for. asked is false if all of it is the
// answer. The error wraps wire.ErrRange.
func requestedPart(r *http.Request, tag string, size int) (p part, asked bool, err error) {
	ranges := r.Header.Values("Range")
	if r.Method != http.MethodGet || len(ranges) != 1 || size == 0 {
		return part{}, false, nil // section 14.2: Range has a meaning for GET only
	}
	if condition := r.Header.Values("If-Range"); len(condition) > 0 && !isTag(condition, tag) {
		return part{}, false, nil
	}
	unit, set, ok := strings.Cut(ranges[0], "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return part{}, false, nil // section 14.2: an unknown unit is ignored
	}
	p, err = parsePart(strings.Trim(set, " \t"), size)
	if errors.Is(err, errNoRange) {
		return part{}, false, nil
	}
	return p, err == nil, err
}

// isTag reports whether the value of If-Range is that tag by the strong comparison (RFC 9110, sections 13.1.5 and
// 8.8.3.2). A date never is: contents have no date.
func isTag(condition []string, tag string) bool {
	return len(condition) == 1 && condition[0] == tag && strings.HasPrefix(tag, `"`)
}

// errNoRange: the text is not one range of bytes. It is ignored (RFC 9110, section 14.2).
var errNoRange = errors.New("not one range of bytes")

// parsePart parses one range of bytes (RFC 9110, section 14.1.2): first-last, first- or -length. The error is
// errNoRange or wraps wire.ErrRange.
func parsePart(text string, size int) (part, error) {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		return part{}, errNoRange
	}
	if first == "" {
		length, ok := position(last)
		switch {
		case !ok:
			return part{}, errNoRange
		case length == 0:
			return part{}, fmt.Errorf("%w: the last 0 bytes were asked for", wire.ErrRange)
		}
		return part{first: size - min(length, size), end: size}, nil
	}
	from, ok := position(first)
	to := math.MaxInt
	if ok && last != "" {
		to, ok = position(last)
	}
	switch {
	case !ok || to < from:
		return part{}, errNoRange
	case from >= size:
		return part{}, fmt.Errorf("%w: byte %d was asked for, the first is 0 and the last %d",
			wire.ErrRange, from, size-1)
	}
	return part{first: from, end: min(to, size-1) + 1}, nil
}

// position parses digits. A number that does not fit is the largest one, which is beyond every content.
func position(digits string) (int, bool) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		n = math.MaxInt
	}
	return n, true
}
