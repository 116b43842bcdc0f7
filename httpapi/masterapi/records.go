package masterapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// maxWait bounds ?timeout= of an append that waits.
const maxWait = time.Minute

// appendRecord is POST /v1/records: the body is the payload, its Content-Type the record's type.
func (m *master) appendRecord(c *gin.Context, project masterfsm.Project) error {
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	payload, err := httpapi.ReadBody(c.Request, int64(m.node.Limits().RecordBytes))
	if err != nil {
		return err
	}
	entry := masternode.Entry{Key: c.GetHeader(wire.HeaderKey), Type: c.GetHeader("Content-Type"), Payload: payload}
	appended, err := m.node.Append(c.Request.Context(), project, []masternode.Entry{entry}, c.GetHeader(wire.HeaderIdempotencyKey))
	if err != nil {
		return err
	}
	if appended.Replay {
		c.Header(wire.HeaderReplay, "true")
	}
	status, receipt := http.StatusCreated, (*wire.Receipt)(nil)
	if wait > 0 {
		status, receipt = m.awaitReceipt(c.Request.Context(), wait, &appended)
	}
	answer := appended.Positions[0].AppendJSON(make([]byte, 0, 256))
	if receipt != nil {
		answer = m.withReceipt(answer, receipt)
	}
	c.Data(status, "application/json", answer)
	return nil
}

// appendBatch is POST /v1/records:batch: NDJSON, or length-framed when the Content-Type says so.
func (m *master) appendBatch(c *gin.Context, project masterfsm.Project) error {
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	limits := m.node.Limits()
	// Base64, names and quotes make an NDJSON body longer than its payloads.
	body, err := httpapi.ReadBody(c.Request, 2*int64(limits.BatchBytes)+int64(limits.BatchRecords)*64)
	if err != nil {
		return err
	}
	var entries []masternode.Entry
	mediaType, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type")) // what cannot be parsed is NDJSON, as is none
	if mediaType == wire.TypeFrames {
		entries, err = parseFrames(body)
	} else {
		entries, err = parseNDJSON(body, limits.BatchRecords)
	}
	if err != nil {
		return err
	}
	appended, err := m.node.Append(c.Request.Context(), project, entries, c.GetHeader(wire.HeaderIdempotencyKey))
	if err != nil {
		return err
	}
	if appended.Replay {
		c.Header(wire.HeaderReplay, "true")
	}
	status := http.StatusCreated
	if wait > 0 {
		ctx, cancel := context.WithTimeout(c.Request.Context(), wait)
		defer cancel()
		status = m.await(ctx, &appended)
	}
	answer := append(make([]byte, 0, 32+200*len(appended.Positions)), `{"records":[`...)
	for i := range appended.Positions {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = appended.Positions[i].AppendJSON(answer)
	}
	c.Data(status, "application/json", append(answer, "]}"...))
	return nil
}

func parseFrames(body []byte) ([]masternode.Entry, error) {
	var entries []masternode.Entry
	err := wire.ParseFrames(body, func(key, typ, payload []byte) error {
		entries = append(entries, masternode.Entry{Key: string(key), Type: string(typ), Payload: payload})
		return nil
	})
	return entries, err
}

// parseNDJSON reads a batch of lines; empty lines are passed over. It stops soon after the limit is passed: what is behind
// does not matter any more.
func parseNDJSON(body []byte, limit int) ([]masternode.Entry, error) {
	var entries []masternode.Entry
	number := 0
	for line := range bytes.Lines(body) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		var l wire.BatchLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, fmt.Errorf("%w: line %d is not JSON of a record: %w", wire.ErrBadRequest, number, err)
		}
		if err := wire.CheckRecordText(l.Key, l.Type); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w; nothing was appended", wire.ErrBadRequest, number, err)
		}
		entry := masternode.Entry{Key: l.Key, Type: l.Type}
		switch {
		case l.Payload != nil && l.Text == nil:
			entry.Payload = *l.Payload
		case l.Text != nil && l.Payload == nil:
			entry.Payload = []byte(*l.Text)
		default:
			return nil, fmt.Errorf(`%w: line %d needs "payload" (base64) or "text", one of the two`, wire.ErrBadRequest, number)
		}
		if entries = append(entries, entry); len(entries) > limit {
			break
		}
	}
	return entries, nil
}

// waitOf reads ?wait=stored&timeout=5s; zero means not to wait.
func waitOf(c *gin.Context) (time.Duration, error) {
	switch wait := c.Query("wait"); wait {
	case "":
		return 0, nil
	case wire.StateStored:
	default:
		return 0, fmt.Errorf("%w: wait=%s; what can be waited for is stored", wire.ErrBadRequest, wait)
	}
	timeout := c.DefaultQuery("timeout", "5s")
	d, err := time.ParseDuration(timeout)
	if err != nil || d <= 0 || d > maxWait {
		return 0, fmt.Errorf("%w: timeout=%s; it is written like 5s and is at most %v", wire.ErrBadRequest, timeout, maxWait)
	}
	return d, nil
}

// await waits for the last record's block, and gives the status of the answer: 202 where it has not come about in time. The record is
// committed either way.
func (m *master) await(ctx context.Context, appended *masternode.Appended) int {
	last := appended.Positions[len(appended.Positions)-1]
	if err := m.node.WaitStored(ctx, last.Block); err != nil {
		return http.StatusAccepted
	}
	for i := range appended.Positions {
		appended.Positions[i].State = wire.StateStored
	}
	return http.StatusCreated
}

// awaitReceipt is await for one record, and then waits for the checkpoint from which it gets its receipt. A record that is stored is an append that
// has done all that was asked, whatever keeps its receipt: that can be asked for later.
func (m *master) awaitReceipt(ctx context.Context, wait time.Duration, appended *masternode.Appended) (status int, receipt *wire.Receipt) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if status = m.await(ctx, appended); status != http.StatusCreated {
		return status, nil
	}
	r, err := m.node.WaitReceipt(ctx, appended.Positions[0])
	if err != nil {
		m.Log.Debug("an append is answered without its receipt", "index", appended.Positions[0].Index, "error", err)
		return status, nil
	}
	return status, &r
}

// record is GET /v1/blocks/{block}/records/{offset}.
func (m *master) record(c *gin.Context, reader masterfsm.Access) error {
	block, offset, err := placeOf(c)
	if err != nil {
		return err
	}
	r, err := m.node.Record(c.Request.Context(), reader, block, offset)
	if err != nil {
		return err
	}
	answerRecord(c, &r)
	return nil
}

// placeOf reads the block and the offset of the path.
func placeOf(c *gin.Context) (block uint64, offset uint32, err error) {
	if block, err = httpapi.Number(c, "block", math.MaxUint64); err != nil {
		return 0, 0, err
	}
	n, err := httpapi.Number(c, "offset", math.MaxUint32)
	return block, uint32(n), err
}

// recordByIndex is GET /v1/records/{index}.
func (m *master) recordByIndex(c *gin.Context, reader masterfsm.Access) error {
	index, err := httpapi.Number(c, "index", math.MaxUint64)
	if err != nil {
		return err
	}
	r, err := m.node.RecordByIndex(c.Request.Context(), reader, index)
	if err != nil {
		return err
	}
	answerRecord(c, &r)
	return nil
}

// answerRecord writes a record: the payload as it is, or the envelope for who would rather have JSON. The payload is somebody's bytes: a browser is told not to guess its type and to run nothing in it.
func answerRecord(c *gin.Context, r *masternode.Record) {
	position := r.Position()
	h := c.Writer.Header()
	h.Add("Vary", "Accept, Authorization")
	typ := r.Type
	if typ == "" || !wire.FitsHeader(typ) {
		typ = wire.TypeOctets // the envelope has the type as it is
	}
	asEnvelope := wantsJSON(c.GetHeader("Accept"), typ)
	if r.Sealed {
		tag := `"` + r.Leaf.String() + `"`
		if asEnvelope {
			// The envelope's state goes from committed to stored, so it is another thing then.
			tag = `"` + r.Leaf.String() + "-" + position.State + `"`
		}
		h.Set("ETag", tag)
		if !asEnvelope || r.Stored {
			h.Set("Cache-Control", "private, max-age=31536000, immutable")
		} else {
			h.Set("Cache-Control", "private, no-cache")
		}
		if match := c.GetHeader("If-None-Match"); match != "" && strings.Contains(match, tag) {
			c.Status(http.StatusNotModified)
			return
		}
	} else {
		h.Set("Cache-Control", "private, no-cache")
	}
	if asEnvelope {
		c.JSON(http.StatusOK, envelope(r))
		return
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")
	h.Set(wire.HeaderPosition, fmt.Sprintf("%d/%d/%d", position.Block, position.Offset, position.Index))
	h.Set(wire.HeaderTime, strconv.FormatUint(position.Time, 10))
	h.Set(wire.HeaderLeaf, position.Leaf.String())
	if r.Key != "" && wire.FitsHeader(r.Key) {
		h.Set(wire.HeaderKey, r.Key)
	}
	c.Data(http.StatusOK, typ, r.Payload)
}

// envelope gives a record the form that it has on the wire.
func envelope(r *masternode.Record) wire.Record {
	return wire.Record{
		Position: r.Position(), Project: r.Project, ProjectID: r.Record.Project, Key: r.Key, Type: r.Type,
		Size: uint32(len(r.Payload)), Salt: r.Salt[:], Commit: r.Commit, Payload: r.Payload,
	}
}
