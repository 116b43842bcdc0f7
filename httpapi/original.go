package httpapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// The API of the original system, path for path: its clients run unchanged. docs/compatibility.md tells what differs. Texts go in and out as
// they are, see originaltext.go; tokens stand in bodies and query strings, which nothing here logs.

// originalRoutes are those of the original's web service, and the two of its masters, which take no token.
func (m *master) originalRoutes() {
	m.POST("/data", m.asOriginal(m.addData))
	m.GET("/data", m.asOriginal(m.getData))
	m.POST("/admin/project", m.asOriginal(m.addProject))
	m.GET("/admin/project", m.asOriginal(m.listProjects))
	m.POST("/saveInfo", m.asOriginal(m.saveInfo))
	m.GET("/findBlockInfo", m.asOriginal(m.findBlockInfo))
}

// originalType is what the original's texts are taken for.
const originalType = "text/plain; charset=utf-8"

// originalError is an error as the original told it.
type originalError struct {
	InfoCode    int    `json:"infoCode"` // the HTTP status
	Description string `json:"description"`
}

// asOriginal makes a handler one of gin's whose errors have the original's form.
func (m *master) asOriginal(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			p := m.failing(c, err)
			m.answerFailure(c, p.Status, "application/json", originalError{InfoCode: p.Status, Description: p.Detail})
		}
	}
}

// answerOriginal answers with an object of one text.
func answerOriginal(c *gin.Context, name string, text []byte) {
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
	body := append(append([]byte(`{"`), name...), `":`...)
	body = append(appendText(body, text), '}')
	c.Data(http.StatusOK, "application/json; charset=utf-8", body)
}

// addData is POST /data {token, info}.
func (m *master) addData(c *gin.Context) error {
	body, _, err := m.readOriginal(c)
	if err != nil {
		return err
	}
	token, err := body.text("token")
	if err != nil {
		return err
	}
	access, err := m.node.Access(c.Request.Context(), token)
	if errors.Is(err, wire.ErrUnauthorized) {
		return fmt.Errorf("%w: token not valid", wire.ErrForbidden) // as the original says it here, and only here
	}
	if err != nil {
		return err
	}
	if err := masternode.MayAppend(access); err != nil {
		return err
	}
	at, err := m.appendInfo(c, access.Project, body)
	if err != nil {
		return err
	}
	answerJSON(c, http.StatusOK, struct {
		BlockIndex uint64 `json:"blockIndex"`
		Offset     uint32 `json:"offset"`
	}{at.Block, at.Offset})
	return nil
}

// appendInfo appends the text that the original calls info.
func (m *master) appendInfo(c *gin.Context, project masterfsm.Project, body originalBody) (wire.Position, error) {
	info, err := body.text("info")
	if err != nil {
		return wire.Position{}, err
	}
	entry := masternode.Entry{Type: originalType, Payload: []byte(info)}
	appended, err := m.node.Append(c.Request.Context(), project, []masternode.Entry{entry}, "")
	if err != nil {
		return wire.Position{}, err
	}
	return appended.Positions[0], nil
}

// getData is GET /data?blockIndex=&offset=&token=.
func (m *master) getData(c *gin.Context) error {
	reader, err := m.node.Access(c.Request.Context(), c.Query("token"))
	if err != nil {
		return err
	}
	r, err := m.originalRecord(c, reader, "blockIndex", "offset")
	if err != nil {
		return err
	}
	answerOriginal(c, "info", r.Payload)
	return nil
}

// originalRecord reads the record at the place that two parameters of the query name.
func (m *master) originalRecord(c *gin.Context, reader masterfsm.Access, blockName, offsetName string) (masternode.Record, error) {
	block, err := parseNumber(blockName, c.Query(blockName), math.MaxUint64)
	if err != nil {
		return masternode.Record{}, err
	}
	offset, err := parseNumber(offsetName, c.Query(offsetName), math.MaxUint32)
	if err != nil {
		return masternode.Record{}, err
	}
	return m.node.Record(c.Request.Context(), reader, block, uint32(offset))
}

// addProject is POST /admin/project {projectName, isPrivate}.
func (m *master) addProject(c *gin.Context) error {
	who, err := m.registrant(c.Request)
	if err != nil {
		return err
	}
	body, raw, err := m.readOriginal(c)
	if err != nil {
		return err
	}
	name, err := body.text("projectName")
	if err != nil {
		return err
	}
	private, err := body.flag("isPrivate")
	if err != nil {
		return err
	}
	if err := m.mayName(who, name); err != nil {
		return err
	}
	return m.leader.do(c, raw, func() error {
		created, err := m.node.CreateProject(c.Request.Context(), wire.NewProject{Name: name, Public: !private})
		if err != nil {
			return err
		}
		answerJSON(c, http.StatusCreated, struct {
			Token string `json:"token"`
		}{created.Token})
		return nil
	})
}

// originalProject is a project as the original lists it. Its Token is empty: the original told everybody every project's.
type originalProject struct {
	ID             uint32 `json:"id"`
	Name           string `json:"name"`
	Token          string `json:"token"`
	InfoAddedCount uint64 `json:"infoAddedCount"`
	IsPrivate      bool   `json:"isPrivate"`
}

// listProjects is GET /admin/project: all of them, since the original knows no pages.
func (m *master) listProjects(c *gin.Context) error {
	projects, err := m.node.Projects(c.Request.Context(), 0, masterfsm.MaxProjects)
	if err != nil {
		return err
	}
	list := make([]originalProject, len(projects))
	for i, p := range projects {
		list[i] = originalProject{ID: p.ID, Name: p.Name, InfoAddedCount: p.Records, IsPrivate: !p.Public}
	}
	answerJSON(c, http.StatusOK, struct {
		List []originalProject `json:"list"`
	}{list})
	return nil
}

// saveInfo is POST /saveInfo {info}, to the legacy project. While there is none the leader makes it: it takes the whole request.
func (m *master) saveInfo(c *gin.Context) error {
	body, raw, err := m.readOriginal(c)
	if bare, ok := bareInfo(raw); err != nil && ok {
		body, err = bare, nil
	}
	if err != nil {
		return err
	}
	legacy, err := m.node.Legacy(c.Request.Context())
	if !errors.Is(err, wire.ErrNotFound) {
		return m.saveTo(c, legacy, err, body)
	}
	return m.leader.do(c, raw, func() error {
		if err := m.node.CreateLegacy(c.Request.Context()); err != nil {
			return err
		}
		legacy, err := m.node.Legacy(c.Request.Context())
		return m.saveTo(c, legacy, err, body)
	})
}

// saveTo appends to the legacy project, or answers why that was not found.
func (m *master) saveTo(c *gin.Context, legacy masterfsm.Project, err error, body originalBody) error {
	if err != nil {
		return err
	}
	at, err := m.appendInfo(c, legacy, body)
	if err != nil {
		return err
	}
	// The offset has two names: the masters' own, and the one by which the provenance application looks for it.
	answerJSON(c, http.StatusOK, struct {
		BlockIndex  uint64 `json:"blockIndex"`
		BlockOffset uint32 `json:"blockOffset"`
		Offset      uint32 `json:"offset"`
	}{at.Block, at.Offset, at.Offset})
	return nil
}

// findBlockInfo is GET /findBlockInfo?blockIndex=&blockOffset=, of the legacy project alone.
func (m *master) findBlockInfo(c *gin.Context) error {
	legacy, err := m.node.Legacy(c.Request.Context())
	if err != nil {
		return err
	}
	reader := masterfsm.Access{Project: legacy, Rights: masterfsm.MayRead}
	r, err := m.originalRecord(c, reader, "blockIndex", "blockOffset")
	if err != nil {
		return err
	}
	if r.Record.Project != legacy.ID {
		return fmt.Errorf("%w: only records of the project %q are read without a token", wire.ErrForbidden, masternode.LegacyProject)
	}
	answerOriginal(c, "data", r.Payload)
	return nil
}
