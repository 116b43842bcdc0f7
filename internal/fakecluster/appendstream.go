package fakecluster

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

const (
	streamWindow = 1024
	streamPart   = 512 // records of a part
)

// appendStream takes records of frames and answers each part of them, while it reads the next ones. The cluster is not
// locked while it reads.
func (c *Cluster) appendStream(w http.ResponseWriter, r *http.Request, by caller) {
	id := r.URL.Query().Get("stream")
	first, err := strconv.ParseUint(r.URL.Query().Get("first"), 10, 64)
	if id == "" || err != nil || first == 0 || r.Header.Get("Content-Type") != wire.TypeFrames {
		c.fail("append stream %q, %q", r.URL.RawQuery, r.Header.Get("Content-Type"))
	}
	of, known := c.Streams[id]
	next := uint64(len(of)) + 1
	switch {
	case c.Streamless != nil:
		Problem(w, c.Streamless)
		return
	case !known && (first > 1 || strings.HasPrefix(id, wire.OwnStreamID)):
		Problem(w, wire.ErrUnknownStream)
		return
	case first > next:
		Problem(w, wire.ErrStreamGap)
		return
	}
	out := http.NewResponseController(w)
	if err := out.EnableFullDuplex(); err != nil {
		c.fail("append stream: %v", err)
	}
	in := bufio.NewReaderSize(r.Body, 64<<10)
	number, begun := first, false
	begin := func() {
		if begun {
			return
		}
		begun = true
		w.Header().Set("Content-Type", wire.TypeNDJSON)
		w.Header().Set("Connection", "close")
		w.Header().Set(wire.HeaderStream, id)
		w.WriteHeader(http.StatusOK)
	}
	end := func(p *wire.Problem) {
		begin()
		line, _ := json.Marshal(wire.StreamAnswer{Number: number - 1, End: true, Problem: p})
		_, _ = w.Write(append(line, '\n'))
	}
	for {
		c.mu.Unlock()
		part, err := nextPart(in)
		c.mu.Lock()
		if len(part) == 0 {
			if errors.Is(err, io.EOF) {
				end(nil)
			}
			return // cut off
		}
		refused := httptest.NewRecorder()
		positions := c.takePart(refused, by, id, number, part)
		if positions == nil && !begun {
			w.Header().Set("Content-Type", refused.Header().Get("Content-Type"))
			w.Header().Set("Connection", "close")
			w.WriteHeader(refused.Code)
			_, _ = w.Write(refused.Body.Bytes())
			return
		}
		if positions == nil {
			var p wire.Problem
			if err := json.Unmarshal(refused.Body.Bytes(), &p); err != nil {
				c.fail("append stream: %v", err)
			}
			end(&p)
			return
		}
		begin()
		for i := range positions {
			line, _ := json.Marshal(wire.StreamAnswer{Number: number, Position: &positions[i]})
			_, _ = w.Write(append(line, '\n'))
			number++
		}
		_ = out.Flush()
	}
}

// takePart appends the records of a part that the stream does not have. It returns nil if it has responded.
func (c *Cluster) takePart(w http.ResponseWriter, by caller, id string, number uint64, part []entry) []wire.Position {
	of := c.Streams[id]
	var positions []wire.Position
	for len(part) > 0 && number <= uint64(len(of)) {
		r := &c.Records[of[number-1]]
		switch e := part[0]; {
		case uint64(len(of))-number >= streamWindow:
			Problem(w, wire.ErrStreamPassed)
			return nil
		case r.Key != e.key || r.Type != e.typ || !bytes.Equal(r.Payload, e.payload):
			Problem(w, wire.ErrStreamContent)
			return nil
		}
		positions = append(positions, c.Position(r))
		part = part[1:]
		number++
	}
	if len(part) == 0 {
		return positions
	}
	from := len(c.Records)
	placed := c.takeKeyed(w, fmt.Sprintf("stream %s %d", id, number), by, part)
	for i := from; i < len(c.Records); i++ {
		of = append(of, i)
	}
	c.Streams[id] = of
	if placed == nil {
		return nil
	}
	return append(positions, placed...)
}

// nextPart reads the frame of a record, and those of others that have arrived.
func nextPart(in *bufio.Reader) (part []entry, err error) {
	for len(part) < streamPart && (len(part) == 0 || in.Buffered() > 0) {
		var lengths [wire.FrameOverhead]byte
		if _, err := io.ReadFull(in, lengths[:]); err != nil {
			return part, err
		}
		key, typ := int(lengths[0]), int(lengths[1])
		parts := make([]byte, key+typ+int(binary.BigEndian.Uint32(lengths[2:])))
		if _, err := io.ReadFull(in, parts); err != nil {
			return part, io.ErrUnexpectedEOF
		}
		part = append(part, entry{string(parts[:key]), string(parts[key : key+typ]), parts[key+typ:]})
	}
	return part, nil
}

// appendStreamState says where a stream continues.
func (c *Cluster) appendStreamState(w http.ResponseWriter, r *http.Request, _ caller) {
	id := r.PathValue("id")
	of, known := c.Streams[id]
	switch {
	case c.Streamless != nil:
		Problem(w, c.Streamless)
	case !known:
		Problem(w, wire.ErrUnknownStream)
	default:
		reply(w, http.StatusOK, streamState(id, uint64(len(of))))
	}
}

// streamState is the state of a stream of n records.
func streamState(id string, n uint64) wire.AppendStream {
	return wire.AppendStream{
		Stream: id, Next: n + 1, Oldest: max(n, streamWindow) - streamWindow + 1, Window: streamWindow,
	}
}

// openAppendStream begins a stream.
func (c *Cluster) openAppendStream(w http.ResponseWriter, _ *http.Request, _ caller) {
	if c.Streamless != nil {
		Problem(w, c.Streamless)
		return
	}
	id := fmt.Sprintf("%s%d", wire.OwnStreamID, len(c.Streams))
	c.Streams[id] = []int{}
	reply(w, http.StatusCreated, streamState(id, 0))
}

// appendStreams lists the streams.
func (c *Cluster) appendStreams(w http.ResponseWriter, r *http.Request, _ caller) {
	if c.Streamless != nil {
		Problem(w, c.Streamless)
		return
	}
	q := r.URL.Query()
	limit := wire.DefaultPage
	if text := q.Get("limit"); text != "" {
		limit, _ = strconv.Atoi(text)
	}
	page := wire.AppendStreams{Streams: []wire.ListedStream{}}
	for _, id := range slices.Sorted(maps.Keys(c.Streams)) {
		if id <= q.Get("cursor") {
			continue
		}
		if len(page.Streams) == limit {
			page.Next = page.Streams[limit-1].Stream
			break
		}
		s := wire.ListedStream{Stream: id, Kind: wire.StreamNamed, Last: uint64(len(c.Streams[id])), IdleSince: c.now()}
		if strings.HasPrefix(id, wire.OwnStreamID) {
			s.Kind = wire.StreamUnnamed
		}
		page.Streams = append(page.Streams, s)
	}
	reply(w, http.StatusOK, page)
}

// removeAppendStream forgets a stream.
func (c *Cluster) removeAppendStream(w http.ResponseWriter, r *http.Request, _ caller) {
	id := r.PathValue("id")
	if _, known := c.Streams[id]; !known {
		Problem(w, wire.ErrUnknownStream)
		return
	}
	delete(c.Streams, id)
	w.WriteHeader(http.StatusNoContent)
}
