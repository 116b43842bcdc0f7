package masterapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// typeJSON is the media type of answers.
const typeJSON = "application/json"

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
	appended, err := m.appendEntries(c, project, []masternode.Entry{entry})
	if err != nil {
		return err
	}
	if wait > 0 {
		return m.answerStored(c, wait, appended[0])
	}
	c.Data(http.StatusCreated, typeJSON, appended[0].AppendJSON(make([]byte, 0, 256)))
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
	// A type that cannot be parsed, or none, means NDJSON.
	mediaType, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if mediaType == wire.TypeFrames {
		entries, err = parseFrames(body)
	} else {
		entries, err = parseNDJSON(body, limits.BatchRecords)
	}
	if err != nil {
		return err
	}
	appended, err := m.appendEntries(c, project, entries)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if wait > 0 {
		ctx, cancel := waiting(c, wait)
		defer cancel()
		status = m.waitStored(ctx, appended)
	}
	answer := append(make([]byte, 0, 32+200*len(appended)), `{"records":[`...)
	for i := range appended {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = appended[i].AppendJSON(answer)
	}
	c.Data(status, typeJSON, append(answer, "]}"...))
	return nil
}

// appendEntries appends a batch and says in a header whether it is the answer to a retry.
func (m *master) appendEntries(
	c *gin.Context, project masterfsm.Project, entries []masternode.Entry,
) ([]wire.Position, error) {
	appended, err := m.node.Append(c.Request.Context(), project, entries, c.GetHeader(wire.HeaderIdempotencyKey))
	if err == nil && appended.Replay {
		c.Header(wire.HeaderReplay, "true")
	}
	return appended.Positions, err
}

func parseFrames(body []byte) ([]masternode.Entry, error) {
	var entries []masternode.Entry
	err := wire.ParseFrames(body, func(key, typ, payload []byte) error {
		entries = append(entries, masternode.Entry{Key: string(key), Type: string(typ), Payload: payload})
		return nil
	})
	return entries, err
}

// parseNDJSON reads a batch of lines. Empty lines are skipped. It stops after limit+1 records: the batch is refused
// then.
func parseNDJSON(body []byte, limit int) ([]masternode.Entry, error) {
	var entries []masternode.Entry
	number := 0
	for line := range bytes.Lines(body) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		entry, err := parseLine(line, number)
		if err != nil {
			return nil, fmt.Errorf("%w; nothing was appended", err)
		}
		if entries = append(entries, entry); len(entries) > limit {
			break
		}
	}
	return entries, nil
}

// parseLine reads a record of NDJSON. The error wraps wire.ErrBadRequest and names the number of the line.
func parseLine(line []byte, number int) (masternode.Entry, error) {
	var l wire.BatchLine
	if err := json.Unmarshal(line, &l); err != nil {
		return masternode.Entry{}, fmt.Errorf("%w: line %d is not JSON of a record: %w", wire.ErrBadRequest, number,
			err)
	}
	if err := wire.CheckRecordText(l.Key, l.Type); err != nil {
		return masternode.Entry{}, fmt.Errorf("%w: line %d: %w", wire.ErrBadRequest, number, err)
	}
	entry := masternode.Entry{Key: l.Key, Type: l.Type}
	switch {
	case l.Payload != nil && l.Text == nil:
		entry.Payload = *l.Payload
	case l.Text != nil && l.Payload == nil:
		entry.Payload = []byte(*l.Text)
	default:
		return masternode.Entry{}, fmt.Errorf(`%w: line %d needs either "payload" (base64) or "text"`,
			wire.ErrBadRequest, number)
	}
	return entry, nil
}
