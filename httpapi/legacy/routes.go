package legacy

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Config is what the routes need of the master that serves them.
type Config struct {
	Engine *httpapi.Engine
	Node   *masternode.Node
	// MayCreate refuses a request whose token may not create a project, and returns a check of the project's name.
	MayCreate func(c *gin.Context) (mayName func(name string) error, err error)
	// Access returns what the token of a request permits.
	Access func(r *http.Request, token string) (masterfsm.Access, error)
	// Open limits the requests to a route without a token.
	Open func(httpapi.Handler) httpapi.Handler
	// AtLeader runs act if this master leads. Otherwise it forwards the request with its body to the leader.
	AtLeader func(c *gin.Context, body []byte, act func() error) error
}

type routes struct{ Config }

// AddRoutes adds the routes of the original's web service, and the two of its masters, which take no token.
func AddRoutes(cfg Config) {
	r := routes{cfg}
	r.Engine.POST("/data", r.do(r.addData))
	r.Engine.GET("/data", r.do(r.getData))
	r.Engine.POST("/admin/project", r.do(r.addProject))
	r.Engine.GET("/admin/project", r.do(r.Open(r.listProjects)))
	r.Engine.POST("/saveInfo", r.do(r.Open(r.saveInfo)))
	r.Engine.GET("/findBlockInfo", r.do(r.Open(r.findBlockInfo)))
}

// textType is the type of the records that the original's texts become.
const textType = "text/plain; charset=utf-8"

// errorBody is the original's form of an error.
type errorBody struct {
	InfoCode    int    `json:"infoCode"` // the HTTP status
	Description string `json:"description"`
}

// Fail answers a request to one of the routes with an error in the original's form.
func Fail(e *httpapi.Engine, c *gin.Context, err error) {
	p := e.Failure(c, err)
	e.AnswerFailure(c, p.Status, "application/json", errorBody{InfoCode: p.Status, Description: p.Detail})
}

// do makes a gin handler of h whose errors have the original's form.
func (r *routes) do(h httpapi.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			Fail(r.Engine, c, err)
		}
	}
}

// answerText answers with an object of one text.
func answerText(c *gin.Context, name string, text []byte) {
	body := append(append([]byte(`{"`), name...), `":`...)
	body = append(appendText(body, text), '}')
	c.Data(http.StatusOK, "application/json; charset=utf-8", body)
}

// addData is POST /data {token, info}.
func (r *routes) addData(c *gin.Context) error {
	body, _, err := r.readBody(c)
	if err != nil {
		return err
	}
	token, err := body.text("token")
	if err != nil {
		return err
	}
	access, err := r.Access(c.Request, token)
	if errors.Is(err, wire.ErrUnauthorized) {
		return fmt.Errorf("%w: token not valid", wire.ErrForbidden) // the original's status of this route
	}
	if err != nil {
		return err
	}
	if err := masternode.MayAppend(access); err != nil {
		return err
	}
	at, err := r.appendInfo(c, access.Project, body)
	if err != nil {
		return err
	}
	httpapi.AnswerJSON(c, http.StatusOK, struct {
		BlockIndex uint64 `json:"blockIndex"`
		Offset     uint32 `json:"offset"`
	}{at.Block, at.Offset})
	return nil
}

// appendInfo appends the text that the original calls info.
func (r *routes) appendInfo(c *gin.Context, project masterfsm.Project, body requestBody) (wire.Position, error) {
	info, err := body.text("info")
	if err != nil {
		return wire.Position{}, err
	}
	entry := masternode.Entry{Type: textType, Payload: []byte(info)}
	appended, err := r.Node.Append(c.Request.Context(), project, []masternode.Entry{entry}, "")
	if err != nil {
		return wire.Position{}, err
	}
	return appended.Positions[0], nil
}

// getData is GET /data?blockIndex=&offset=&token=.
func (r *routes) getData(c *gin.Context) error {
	reader, err := r.Access(c.Request, c.Query("token"))
	if err != nil {
		return err
	}
	found, err := r.record(c, reader, "offset")
	if err != nil {
		return err
	}
	answerText(c, "info", found.Payload)
	return nil
}

// record reads the record whose block and offset are two parameters of the query.
func (r *routes) record(c *gin.Context, reader masterfsm.Access, offsetName string) (masternode.Record, error) {
	block, err := httpapi.ParseNumber("blockIndex", c.Query("blockIndex"), math.MaxUint64)
	offset, badOffset := httpapi.ParseNumber(offsetName, c.Query(offsetName), math.MaxUint32)
	if err = cmp.Or(err, badOffset); err != nil {
		return masternode.Record{}, err
	}
	return r.Node.Record(c.Request.Context(), reader, block, uint32(offset))
}

// addProject is POST /admin/project {projectName, isPrivate}.
func (r *routes) addProject(c *gin.Context) error {
	mayName, err := r.MayCreate(c)
	if err != nil {
		return err
	}
	body, raw, err := r.readBody(c)
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
	if err := mayName(name); err != nil {
		return err
	}
	return r.AtLeader(c, raw, func() error {
		created, err := r.Node.CreateProject(c.Request.Context(), wire.NewProject{Name: name, Public: !private})
		if err != nil {
			return err
		}
		httpapi.AnswerJSON(c, http.StatusCreated, struct {
			Token string `json:"token"`
		}{created.Token})
		return nil
	})
}

// projectEntry is a project of the original's list. The original showed every token to everyone; here Token is empty.
type projectEntry struct {
	ID             uint32 `json:"id"`
	Name           string `json:"name"`
	Token          string `json:"token"`
	InfoAddedCount uint64 `json:"infoAddedCount"`
	IsPrivate      bool   `json:"isPrivate"`
}

// listProjects is GET /admin/project: all projects, since the original has no pages.
func (r *routes) listProjects(c *gin.Context) error {
	projects, err := r.Node.Projects(c.Request.Context(), 0, masterfsm.MaxProjects)
	if err != nil {
		return err
	}
	list := []projectEntry{}
	for _, p := range projects {
		if p.ID != trail.ProjectID { // the original has none, and its clients cannot use it
			list = append(list, projectEntry{ID: p.ID, Name: p.Name, InfoAddedCount: p.Records, IsPrivate: !p.Public})
		}
	}
	httpapi.AnswerJSON(c, http.StatusOK, struct {
		List []projectEntry `json:"list"`
	}{list})
	return nil
}

// saveInfo is POST /saveInfo {info}, to the legacy project. The first request creates the project: it goes to the
// leader.
func (r *routes) saveInfo(c *gin.Context) error {
	body, raw, err := r.readBody(c)
	if bare, ok := bareInfo(raw); err != nil && ok {
		body, err = bare, nil
	}
	if err != nil {
		return err
	}
	legacy, err := r.Node.Legacy(c.Request.Context())
	if !errors.Is(err, wire.ErrNotFound) {
		return r.saveTo(c, legacy, err, body)
	}
	return r.AtLeader(c, raw, func() error {
		if err := r.Node.CreateLegacy(c.Request.Context()); err != nil {
			return err
		}
		legacy, err := r.Node.Legacy(c.Request.Context())
		return r.saveTo(c, legacy, err, body)
	})
}

// saveTo appends to the legacy project, or returns err, the error of the search for it.
func (r *routes) saveTo(c *gin.Context, legacy masterfsm.Project, err error, body requestBody) error {
	if err != nil {
		return err
	}
	at, err := r.appendInfo(c, legacy, body)
	if err != nil {
		return err
	}
	// The offset has two names: that of the original's masters, and the one that the provenance application reads.
	httpapi.AnswerJSON(c, http.StatusOK, struct {
		BlockIndex  uint64 `json:"blockIndex"`
		BlockOffset uint32 `json:"blockOffset"`
		Offset      uint32 `json:"offset"`
	}{at.Block, at.Offset, at.Offset})
	return nil
}

// findBlockInfo is GET /findBlockInfo?blockIndex=&blockOffset=, for records of the legacy project only.
func (r *routes) findBlockInfo(c *gin.Context) error {
	legacy, err := r.Node.Legacy(c.Request.Context())
	if err != nil {
		return err
	}
	reader := masterfsm.Access{Project: legacy, Rights: masterfsm.MayRead}
	found, err := r.record(c, reader, "blockOffset")
	if err != nil {
		return err
	}
	if found.Project != legacy.ID {
		return fmt.Errorf("%w: without a token only records of the project %q can be read",
			wire.ErrForbidden, masternode.LegacyProject)
	}
	answerText(c, "data", found.Payload)
	return nil
}
