package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// storedRecord is a record of a fake append stream.
type storedRecord struct {
	frame []byte
	at    wire.Position
}

// streamStore is a cluster without a network that has append streams. Its masters share the records. It checks what the
// client does: first continues the stream, records that are sent again are the same, and no more than the window is
// without an answer. It is a transport.
type streamStore struct {
	t     *testing.T
	fault func(host string, request int) streamFault // of each request; nil for none

	mu       sync.Mutex
	streams  map[string][]storedRecord
	requests []string // host, stream and first of each
	bad      string   // a record whose payload ends so is refused, with its part
	part     int      // records of a part, 0 for 1
	window   uint64   // 0 for streamWindow
	most     uint64   // records without an answer, of a request that gets none

	opened  int                      // streams that were opened
	refuses func() *wire.ProblemType // of a request to open a stream; nil for none
	all     []string                 // the payloads of all records, in the order of their indexes from 1 on
	batches map[string][]wire.Position
}

func (s *streamStore) limit() uint64 {
	if s.window == 0 {
		return streamWindow
	}
	return s.window
}

// open answers POST /v1/streams.
func (s *streamStore) open() *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses != nil {
		if p := s.refuses(); p != nil {
			return problemResponse(p)
		}
	}
	s.opened++
	id := fmt.Sprint(wire.OwnStreamID, s.opened)
	s.streams[id] = []storedRecord{}
	return jsonResponse(http.StatusCreated, wire.AppendStream{Stream: id, Next: 1, Oldest: 1, Window: s.window})
}

// state answers GET /v1/streams/{id}.
func (s *streamStore) state(id string) *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, ok := s.streams[id]
	if !ok {
		return problemResponse(wire.ErrUnknownStream)
	}
	n := uint64(len(of))
	return jsonResponse(http.StatusOK, wire.AppendStream{
		Stream: id, Next: n + 1, Oldest: max(n, s.limit()) - s.limit() + 1, Window: s.window,
	})
}

// batch answers POST /v1/records:batch. It appends once under each key.
func (s *streamStore) batch(r *http.Request) *http.Response {
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Header.Get(wire.HeaderIdempotencyKey)
	positions, ok := s.batches[key]
	if !ok {
		var payloads []string
		_ = wire.ParseFrames(body, func(_, _, payload []byte) error {
			payloads = append(payloads, string(payload))
			return nil
		})
		for _, p := range payloads {
			if s.bad != "" && strings.HasSuffix(p, s.bad) {
				return problemResponse(wire.ErrTooLarge)
			}
		}
		for _, p := range payloads {
			positions = append(positions, s.add(p))
		}
		if s.batches == nil {
			s.batches = map[string][]wire.Position{}
		}
		s.batches[key] = positions
	}
	return jsonResponse(http.StatusCreated, wire.Positions{Records: positions})
}

// add appends a record. The lock is held.
func (s *streamStore) add(payload string) wire.Position {
	s.all = append(s.all, payload)
	return wire.Position{Index: uint64(len(s.all)), Leaf: chain.Hash{7}, State: wire.StateCommitted}
}

func jsonResponse(status int, v any) *http.Response {
	data, _ := json.Marshal(v)
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(data)),
		Body: io.NopCloser(bytes.NewReader(data)),
	}
}

func payloadOf(frame []byte) string {
	return string(frame[wire.FrameOverhead+int(frame[0])+int(frame[1]):])
}

// streamFault is what goes wrong in a request. The zero value is nothing.
type streamFault struct {
	noDial     bool
	status     *wire.ProblemType // of the answer, before anything is read
	foreign    int               // status of an answer of another program
	readMost   int               // bytes of the body that are read, then the connection is cut; 0 for all
	writeMost  int               // bytes of the answer, then it is cut; 0 for all. 1 is nothing but the head
	noHead     bool              // with writeMost: not even the head
	records    int               // after so many records the request ends, 0 for never
	problem    *wire.ProblemType // the problem of that end; nil for the end without one
	unanswered int               // records that are appended after that and have no answer
	halfDuplex bool              // nothing is answered before the end of the body
	silent     bool              // nothing is answered
	edit       func(line int, text string) string
}

func (s *streamStore) client(retry int, masters ...string) *Client {
	cfg := Config{Token: testToken, HTTP: &http.Client{Transport: s}, RetryFor: -1}
	if retry > 0 {
		cfg.RetryFor = 1 << 50
	}
	for _, m := range masters {
		cfg.Masters = append(cfg.Masters, "http://"+m)
	}
	c, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// cutReader cuts a connection after so many bytes.
type cutReader struct {
	r    io.Reader
	left int
}

var errCut = errors.New("connection reset by peer")

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errCut
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// cutWriter takes so many bytes and then fails.
type cutWriter struct {
	w    *io.PipeWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p[:min(len(p), c.left)])
	if c.left -= n; err == nil && n < len(p) {
		_ = c.w.CloseWithError(errCut)
		err = errCut
	}
	return n, err
}

func problemResponse(t *wire.ProblemType) *http.Response {
	data, _ := json.Marshal(t.Problem(t))
	return &http.Response{
		StatusCode: t.Status, Header: http.Header{"Content-Type": {wire.TypeProblem}}, ContentLength: int64(len(data)),
		Body: io.NopCloser(bytes.NewReader(data)),
	}
}

func (s *streamStore) RoundTrip(r *http.Request) (*http.Response, error) {
	id, isState := strings.CutPrefix(r.URL.Path, "/v1/streams/")
	switch {
	case r.URL.Path == "/v1/streams" && r.Method == http.MethodPost:
		return s.open(), nil
	case isState && r.Method == http.MethodGet:
		return s.state(id), nil
	case r.URL.Path == "/v1/records:batch":
		return s.batch(r), nil
	}
	if r.URL.Path != "/v1/records:stream" || r.Method != http.MethodPost || r.Header.Get("Content-Type") !=
		wire.TypeFrames || r.Header.Get("Authorization") != "Bearer "+testToken ||
		r.Header.Get("Expect") != "100-continue" {
		s.t.Errorf("%s %s, %v", r.Method, r.URL, r.Header)
	}
	q := r.URL.Query()
	id = q.Get("stream")
	first, err := strconv.ParseUint(q.Get("first"), 10, 64)
	if err != nil || wire.CheckStreamID(id) != nil {
		s.t.Errorf("query %q", r.URL.RawQuery)
	}
	s.mu.Lock()
	s.requests = append(s.requests, fmt.Sprintf("%s %s %d", r.URL.Host, id, first))
	var f streamFault
	if s.fault != nil {
		f = s.fault(r.URL.Host, len(s.requests))
	}
	of, known := s.streams[id]
	next := uint64(len(of)) + 1
	s.mu.Unlock()
	answer, out := io.Pipe()
	context.AfterFunc(r.Context(), func() { _ = answer.CloseWithError(r.Context().Err()) })
	refuse := func(response *http.Response, err error) (*http.Response, error) {
		_ = r.Body.Close()
		return response, err
	}
	switch {
	case f.noDial:
		return refuse(nil, dialError())
	case f.foreign != 0:
		return refuse(&http.Response{StatusCode: f.foreign, Body: http.NoBody}, nil)
	case f.status != nil:
		return refuse(problemResponse(f.status), nil)
	case !known && (first > 1 || strings.HasPrefix(id, wire.OwnStreamID)):
		return refuse(problemResponse(wire.ErrUnknownStream), nil)
	case first > next:
		s.t.Errorf("first=%d, the next number is %d", first, next)
		return refuse(problemResponse(wire.ErrStreamGap), nil)
	}
	ended := make(chan error, 1) // without an answer
	head := make(chan struct{})
	go func() {
		defer r.Body.Close()
		var once sync.Once
		err := s.serve(r.Body, out, id, first, f, func() { once.Do(func() { close(head) }) })
		var p *wire.ProblemType
		if errors.As(err, &p) {
			ended <- err
			return
		}
		if err != nil {
			_ = out.CloseWithError(err)
			ended <- err
			return
		}
		_ = out.Close()
	}()
	select {
	case <-head:
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {wire.TypeNDJSON}}, ContentLength: -1,
			Body: pipeBody{answer, r.Body},
		}, nil
	case err := <-ended:
		var p *wire.ProblemType
		if errors.As(err, &p) {
			return problemResponse(p), nil
		}
		return nil, err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// pipeBody is the body of an answer. Closing it closes the connection.
type pipeBody struct {
	*io.PipeReader
	request io.Closer
}

// Close implements [io.Closer].
func (b pipeBody) Close() error { return errors.Join(b.PipeReader.Close(), b.request.Close()) }

// serve is one request, which may fail in the ways of f.
func (s *streamStore) serve(
	body io.Reader, out *io.PipeWriter, id string, first uint64, f streamFault, head func(),
) error {
	if f.readMost > 0 {
		body = &cutReader{body, f.readMost}
	}
	if f.halfDuplex {
		all, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(all)
	}
	var w io.Writer = out
	if f.writeMost > 0 {
		w = &cutWriter{out, f.writeMost - 1}
		if !f.noHead {
			head()
		}
	}
	in := bufio.NewReader(body)
	number, answered, lines := first, first-1, 0
	line := func(text string) error {
		if f.edit != nil {
			text = f.edit(lines, text)
		}
		lines++
		head()
		_, err := io.WriteString(w, text)
		return err
	}
	end := func(p *wire.ProblemType) error {
		if p != nil && lines == 0 && f.writeMost == 0 {
			return p
		}
		a := wire.StreamAnswer{Number: answered, End: true}
		if p != nil {
			problem := p.Problem(p)
			a.Problem = &problem
		}
		text, _ := json.Marshal(a)
		return line(string(text) + "\n")
	}
	for {
		frames, err := readPart(in, max(1, s.part))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(frames) == 0 {
			return end(nil)
		}
		if f.records > 0 && number-first+uint64(len(frames)) > uint64(f.records) {
			frames = append(frames, nil)[:min(len(frames), f.unanswered)]
			if _, p := s.place(id, number, frames); p != nil && s.bad == "" {
				s.t.Error(p)
			}
			return end(f.problem)
		}
		if most := number + uint64(len(frames)) - 1; most-answered > s.limit() {
			s.t.Errorf("%d records without an answer", most-answered)
		}
		positions, p := s.place(id, number, frames)
		if p != nil {
			return end(p)
		}
		if f.silent {
			for unanswered := len(frames); ; unanswered++ {
				if s.most = max(s.most, uint64(unanswered)); s.most > s.limit() {
					s.t.Errorf("%d records without an answer", unanswered)
				}
				if _, err := readPart(in, 1); err != nil {
					return errors.Join(err, errCut)
				}
			}
		}
		for i := range positions {
			number++
			answered = number - 1
			at, _ := json.Marshal(wire.StreamAnswer{Number: answered, Position: &positions[i]})
			if err := line(string(at) + "\n"); err != nil {
				return err
			}
		}
	}
}

// readPart reads the frame of a record, and those of more that are there.
func readPart(in *bufio.Reader, most int) (frames [][]byte, err error) {
	for len(frames) < most && (len(frames) == 0 || in.Buffered() > 0) {
		frame := make([]byte, wire.FrameOverhead)
		if _, err := io.ReadFull(in, frame); err != nil {
			return frames, err
		}
		rest := make([]byte, int(frame[0])+int(frame[1])+int(binary.BigEndian.Uint32(frame[2:])))
		if _, err := io.ReadFull(in, rest); err != nil {
			return frames, io.ErrUnexpectedEOF
		}
		frames = append(frames, append(frame, rest...))
	}
	return frames, nil
}

// place appends a part, all or none. Records that are there get their positions.
func (s *streamStore) place(id string, number uint64, frames [][]byte) ([]wire.Position, *wire.ProblemType) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, frame := range frames {
		if s.bad != "" && strings.HasSuffix(string(frame), s.bad) {
			return nil, wire.ErrTooLarge
		}
	}
	var positions []wire.Position
	if _, known := s.streams[id]; !known && (number > 1 || strings.HasPrefix(id, wire.OwnStreamID)) {
		return nil, wire.ErrUnknownStream
	}
	for i, frame := range frames {
		of := s.streams[id]
		n := number + uint64(i)
		switch has := uint64(len(of)); {
		case n > has+1:
			s.t.Errorf("number %d follows number %d", n, has)
			return nil, wire.ErrStreamGap
		case n == has+1:
			of = append(of, storedRecord{bytes.Clone(frame), s.add(payloadOf(frame))})
			s.streams[id] = of
		case has-n >= s.limit():
			return nil, wire.ErrStreamPassed
		case !bytes.Equal(of[n-1].frame, frame):
			return nil, wire.ErrStreamContent
		}
		positions = append(positions, of[n-1].at)
	}
	return positions, nil
}

// payloads returns the payloads of a stream, the only one if id is "".
func (s *streamStore) payloads(id string) (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == "" {
		if len(s.streams) > 1 {
			s.t.Errorf("%d streams", len(s.streams))
		}
		for id = range s.streams {
		}
	}
	for _, r := range s.streams[id] {
		list = append(list, payloadOf(r.frame))
	}
	return list
}
