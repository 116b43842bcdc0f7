package masterapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// appendStream is POST /v1/records:stream: records in, positions out, at the same time.
func (m *master) appendStream(c *gin.Context, project masterfsm.Project) error {
	id, chosen := c.GetQuery("stream")
	if !chosen {
		id = masternode.NewStreamID()
	}
	q := masternode.AppendStream{ID: id, New: !chosen, First: 1}
	if err := wire.CheckStreamID(q.ID); err != nil {
		return err
	}
	if text := c.Query("first"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			return fmt.Errorf("%w: first=%q is not the number of a record; numbers begin with 1", wire.ErrBadRequest,
				text)
		}
		q.First = n
	}
	if err := httpapi.CheckCoding(c.Request); err != nil {
		return err
	}
	q.Access = m.accessAgain(c.Request)
	ctx, stop := httpapi.UntilDrain(c.Request.Context())
	defer stop()
	httpapi.CountAs(c.Request, m.streams, strconv.FormatUint(uint64(project.ID), 10))
	httpapi.Endless(c.Request)
	httpapi.SlowBody(c.Request)
	mediaType, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type"))
	body := newRecordSource(c.Request.Body, mediaType == wire.TypeFrames, m.node.Limits().RecordBytes)
	request := c.Request
	body.hold = func(n int) error { return httpapi.Hold(request, n) }
	body.stop = func() { httpapi.StopBody(request) }
	sink := &streamAnswers{c: c, out: http.NewResponseController(c.Writer), stream: q.ID}
	q.Body, q.Sink = body, sink
	last, err := m.node.AppendStream(ctx, project, q)
	if err != nil {
		err = streamError(err, q.ID, last)
	}
	if err != nil && !c.Writer.Written() {
		if c.Request.ProtoMajor == 1 {
			c.Header("Connection", "close") // reads of the body may have been stopped, and a part of it may be left
		}
		return err
	}
	end := wire.StreamAnswer{Number: last, End: true}
	if err != nil {
		p := m.Failure(c, err)
		end.Problem = &p
	}
	return sink.end(end)
}

// streamError is the error that ends a stream, with what its client should do. last is the number of the last record
// whose position is known.
func streamError(err error, id string, last uint64) error {
	stopping := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	switch t := wire.ProblemOf(err); {
	case stopping:
		if t == nil {
			t = wire.ErrUnavailable
		}
		return fmt.Errorf("%w: this master ends the stream after number %d, because it is stopping; ask another one "+
			"where to continue, with GET /v1/streams/%s", t, last, id)
	case t == wire.ErrUnknownOutcome, t == wire.ErrNoLeader, t == wire.ErrUnreadAnswers:
		return fmt.Errorf("%w; the stream ends after number %d, and later records may have been appended; GET "+
			"/v1/streams/%s says where to continue", err, last, id)
	}
	return err
}

// openAppendStream is POST /v1/streams: it begins a stream whose id a master makes.
func (m *master) openAppendStream(c *gin.Context, project masterfsm.Project) error {
	return m.leader.do(c, nil, func() error {
		return httpapi.Answer(c, http.StatusCreated)(m.node.OpenStream(c.Request.Context(), project.ID))
	})
}

// appendStreams is GET /v1/streams?cursor=&limit=, in the order of ids. A cursor is the id before the first of the
// page.
func (m *master) appendStreams(c *gin.Context, project masterfsm.Project) error {
	after := c.Query("cursor")
	if after != "" {
		if err := wire.CheckStreamID(after); err != nil {
			return fmt.Errorf("cursor: %w", err)
		}
	}
	most, err := queryNumber(c, "limit", wire.DefaultPage, 1, wire.MaxPage)
	if err != nil {
		return err
	}
	limit := int(most)
	// One more than the limit shows whether there is another page.
	list, err := m.node.AppendStreams(c.Request.Context(), project.ID, after, limit+1)
	if err != nil {
		return err
	}
	page := wire.AppendStreams{Streams: list[:min(limit, len(list))]}
	if len(list) > limit {
		page.Next = list[limit-1].Stream
	}
	c.Header("Cache-Control", "no-store")
	httpapi.AnswerJSON(c, http.StatusOK, page)
	return nil
}

// appendStreamState is GET /v1/streams/{id}: where a stream continues.
func (m *master) appendStreamState(c *gin.Context, project masterfsm.Project) error {
	id := c.Param("id")
	if err := wire.CheckStreamID(id); err != nil {
		return err
	}
	state, err := m.node.AppendStreamState(c.Request.Context(), project.ID, id)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, state)
	return nil
}

// removeAppendStream is DELETE /v1/streams/{id}: the stream's records stay, and its id may be used again.
func (m *master) removeAppendStream(c *gin.Context, project masterfsm.Project) error {
	id := c.Param("id")
	if err := wire.CheckStreamID(id); err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RemoveStream(c.Request.Context(), project.ID, id))
	})
}

// answerChunk is how many bytes of answers are written at a time.
const answerChunk = 32 << 10

// streamAnswers writes the answers of an append stream: one line of JSON for each record, and a last one. The head is
// sent with the first answers and not before: until then a problem can be answered with its status, and some proxies
// send nothing more of the body once they have the head.
type streamAnswers struct {
	c      *gin.Context
	out    *http.ResponseController
	stream string
	buf    []byte
}

// Begin implements masternode.AppendSink.
func (s *streamAnswers) Begin() error {
	if err := s.out.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// head sets the headers of the answer.
func (s *streamAnswers) head() {
	h := s.c.Writer.Header()
	h.Set("Content-Type", wire.TypeNDJSON)
	h.Set("X-Accel-Buffering", "no") // nginx would keep answers back to fill its buffer
	h.Set(wire.HeaderStream, s.stream)
	if s.c.Request.ProtoMajor == 1 {
		h.Set("Connection", "close") // a part of the body may be left
	}
}

// Answer implements masternode.AppendSink.
func (s *streamAnswers) Answer(first uint64, positions []wire.Position) error {
	for i := range positions {
		s.buf = append(s.buf, `{"number":`...)
		s.buf = strconv.AppendUint(s.buf, first+uint64(i), 10)
		start := len(s.buf)
		s.buf = positions[i].AppendJSON(s.buf)
		s.buf[start] = ',' // in the place of the brace
		s.buf = append(s.buf, '\n')
		if len(s.buf) >= answerChunk {
			if err := s.write(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush implements masternode.AppendSink.
func (s *streamAnswers) Flush() error {
	if err := s.write(); err != nil {
		return err
	}
	return s.out.Flush()
}

func (s *streamAnswers) write() error {
	if !s.c.Writer.Written() {
		s.head()
	}
	_, err := s.c.Writer.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// end writes the last line.
func (s *streamAnswers) end(a wire.StreamAnswer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	s.buf = append(append(s.buf, line...), '\n')
	return s.Flush()
}

// firstBuffer is the size of the buffer of a body until a record needs a larger one.
const firstBuffer = 64 << 10

// recordSource reads records of a body, as NDJSON or frames. Its memory counts as that of the request.
type recordSource struct {
	body   io.Reader
	frames bool
	limit  int // of a payload

	hold func(n int) error // counts memory; a negative n gives some back
	stop func()            // makes reads fail

	buf     []byte
	at, end int   // of what was read and not parsed
	held    int   // bytes of buf that count
	number  int   // of the record, or of the line
	err     error // of the body
	stopped atomic.Bool
}

func newRecordSource(body io.Reader, frames bool, limit int) *recordSource {
	return &recordSource{
		body: body, frames: frames, limit: limit, hold: func(int) error { return nil }, stop: func() {},
	}
}

// Next implements masternode.AppendSource.
func (s *recordSource) Next(most int) ([]masternode.Entry, error) {
	var entries []masternode.Entry
	for {
		for len(entries) < most {
			entry, size, err := s.parse()
			if err == nil && size > 0 && entry.Payload != nil {
				err = s.hold(len(entry.Payload))
			}
			if err != nil && len(entries) > 0 {
				return entries, nil // it is parsed again by the next call
			}
			if err != nil {
				return nil, err
			}
			if size == 0 {
				break
			}
			s.at += size
			s.number++
			if entry.Payload != nil {
				entries = append(entries, entry)
			}
		}
		switch {
		case len(entries) > 0:
			return entries, nil
		case s.err != nil:
			return nil, s.err
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more of the body. The buffer grows if a record fills it.
func (s *recordSource) fill() error {
	if s.stopped.Load() {
		return io.ErrUnexpectedEOF
	}
	if s.at > 0 {
		copy(s.buf, s.buf[s.at:s.end])
		s.at, s.end = 0, s.end-s.at
	}
	if s.end == len(s.buf) {
		size := max(firstBuffer, 2*len(s.buf))
		if err := s.hold(size - s.held); err != nil {
			return err
		}
		s.held = size
		larger := make([]byte, size)
		copy(larger, s.buf[:s.end])
		s.buf = larger
	}
	n, err := s.body.Read(s.buf[s.end:])
	s.end += n
	if err != nil && !errors.Is(err, io.EOF) {
		err = httpapi.CutShort(err)
	}
	s.err = err
	return nil
}

// parse reads the record at the front of the buffer, and returns the size of its bytes there: 0 if more must be read.
// The payload is nil for a line without a record. It is a copy, as the buffer is used again.
func (s *recordSource) parse() (masternode.Entry, int, error) {
	data := s.buf[s.at:s.end]
	if s.frames {
		return s.parseFrame(data)
	}
	size := bytes.IndexByte(data, '\n') + 1
	if size == 0 {
		if s.err != io.EOF || len(data) == 0 { //nolint:errorlint // it is stored as it is
			// Base64, names and quotes make a line longer than its payload.
			if most := 2*s.limit + firstBuffer; len(data) > most {
				return masternode.Entry{}, 0, fmt.Errorf("%w: line %d has more than %d bytes", wire.ErrTooLarge,
					s.number+1, most)
			}
			return masternode.Entry{}, 0, nil
		}
		size = len(data) // the last line
	}
	line := bytes.TrimSpace(data[:size])
	if len(line) == 0 {
		return masternode.Entry{}, size, nil
	}
	entry, err := parseLine(line, s.number+1)
	if err == nil && len(entry.Payload) == 0 {
		err = fmt.Errorf("%w: line %d", wire.ErrEmptyBody, s.number+1)
	}
	if err != nil {
		return masternode.Entry{}, 0, err
	}
	return entry, size, nil
}

func (s *recordSource) parseFrame(data []byte) (masternode.Entry, int, error) {
	cut := func() (masternode.Entry, int, error) {
		if s.err == io.EOF && len(data) > 0 { //nolint:errorlint // it is stored as it is
			return masternode.Entry{}, 0, fmt.Errorf("%w: frame %d is cut short", wire.ErrBadRequest, s.number)
		}
		return masternode.Entry{}, 0, nil
	}
	if len(data) < wire.FrameOverhead {
		return cut()
	}
	key, typ, payload := int(data[0]), int(data[1]), binary.BigEndian.Uint32(data[2:])
	if limit := uint32(min(s.limit, chain.MaxPayload)); payload > limit {
		return masternode.Entry{}, 0, fmt.Errorf("%w: the payload of frame %d has %d bytes, the limit is %d",
			wire.ErrTooLarge, s.number, payload, limit)
	}
	if payload == 0 {
		return masternode.Entry{}, 0, fmt.Errorf("%w: frame %d", wire.ErrEmptyBody, s.number)
	}
	size := wire.FrameOverhead + key + typ + int(payload)
	if len(data) < size {
		return cut()
	}
	parts := data[wire.FrameOverhead:size]
	return masternode.Entry{
		Key: string(parts[:key]), Type: string(parts[key : key+typ]), Payload: bytes.Clone(parts[key+typ:]),
	}, size, nil
}

// drained is how much of a body is dropped.
const drained = 64 << 20

// Drain implements masternode.AppendSource.
func (s *recordSource) Drain() {
	if !s.stopped.Load() && s.err == nil {
		_, _ = io.CopyN(io.Discard, s.body, drained)
	}
}

// Stop implements masternode.AppendSource.
func (s *recordSource) Stop() {
	s.stopped.Store(true)
	s.stop()
}

// Free implements masternode.AppendSource.
func (s *recordSource) Free(payloads int) { _ = s.hold(-payloads) }
