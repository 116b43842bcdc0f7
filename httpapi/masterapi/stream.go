package masterapi

import (
	"encoding/json"
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

// stream is GET /v1/records/stream: server-sent events of the HTML standard.
func (m *master) stream(c *gin.Context, _ masterfsm.Access) error {
	var q masternode.StreamQuery
	var err error
	if q.Query, err = queryOf(c); err != nil {
		return err
	}
	q.Now = c.Query("from") == ""
	if last := c.GetHeader(wire.HeaderLastEventID); last != "" {
		n, err := strconv.ParseUint(last, 10, 64)
		if err != nil || n == math.MaxUint64 {
			return fmt.Errorf("%w: %s %q is not the id of an event", wire.ErrBadRequest, wire.HeaderLastEventID, last)
		}
		q.From, q.Now = n+1, false
	}
	ctx, stop := httpapi.UntilDrain(c.Request.Context())
	defer stop()
	httpapi.Endless(c.Request)
	return m.node.Stream(ctx, q, m.accessAgain(c.Request), &events{c: c, out: http.NewResponseController(c.Writer)})
}

// events writes a stream. An event's id is the record's leaf index. An event of an id only is not passed to the page;
// the browser resumes the stream from that id.
type events struct {
	c     *gin.Context
	out   *http.ResponseController
	begun bool
	buf   []byte
}

// Records implements masternode.StreamSink.
func (e *events) Records(records []masternode.Record) error {
	for i := range records {
		data, err := json.Marshal(envelope(&records[i]))
		if err != nil {
			return err
		}
		e.buf = fmt.Appendf(e.buf, "id: %d\nevent: %s\ndata: %s\n\n", records[i].At.Index, wire.EventRecord, data)
		if len(e.buf) >= streamChunk || i == len(records)-1 {
			if err := e.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// streamChunk is how many bytes of events are written at a time.
const streamChunk = 64 << 10

// Alive implements masternode.StreamSink. The place before leaf 0 has no id.
func (e *events) Alive(next uint64) error {
	if !e.begun {
		h := e.c.Writer.Header()
		h.Set("Content-Type", wire.TypeEvents)
		h.Set("X-Accel-Buffering", "no") // nginx would keep events back to fill its buffer
		if e.c.Request.ProtoMajor == 1 {
			h.Set("Connection", "close") // the stream ends with its connection
		}
		e.c.Status(http.StatusOK)
		e.buf = append(e.buf, "retry: 1000\n"...)
		e.begun = true
	}
	e.buf = append(e.buf, ": alive\n"...)
	if next > 0 {
		e.buf = fmt.Appendf(e.buf, "id: %d\n", next-1)
	}
	e.buf = append(e.buf, '\n')
	return e.flush()
}

func (e *events) flush() error {
	_, err := e.c.Writer.Write(e.buf)
	e.buf = e.buf[:0]
	if err != nil {
		return err
	}
	return e.out.Flush()
}
