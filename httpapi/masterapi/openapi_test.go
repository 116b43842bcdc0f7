package masterapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/wire"
)

// TestMain makes the default client validate every request and response against openapi.yaml, in all tests of this
// package. If the document does not describe a request or response, the request fails.
func TestMain(m *testing.M) {
	doc, err := loadDocument()
	if err != nil {
		fmt.Fprintln(os.Stderr, "openapi.yaml:", err)
		os.Exit(1)
	}
	http.DefaultClient.Transport = &described{doc: doc, next: http.DefaultTransport}
	os.Exit(m.Run())
}

// loadDocument reads openapi.yaml and forbids additional fields in its schemas. Clients must ignore unknown fields, but
// the tests must know all of them.
func loadDocument() (*openapi3.T, error) {
	data, err := os.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	closed := false
	for _, schema := range doc.Components.Schemas {
		if len(schema.Value.Properties) > 0 {
			schema.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &closed}
		}
	}
	return doc, nil
}

// described is a transport that rejects everything that the document does not describe.
type described struct {
	doc  *openapi3.T
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (d *described) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(r)
	if err != nil || !isAPI(r.URL.Path) || strings.HasPrefix(r.URL.Path, "/worker/") || r.Method == http.MethodOptions {
		return resp, err
	}
	if err := d.hold(r, resp); err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("not as openapi.yaml has it: %s %s, %s: %w", r.Method, r.URL.Path, resp.Status, err)
	}
	return resp, nil
}

// hold validates a request and its response. A request that was refused need not match the document; an accepted one
// must.
func (d *described) hold(r *http.Request, resp *http.Response) error {
	route, params := d.find(r)
	if route.Operation == nil {
		return d.holdUnknown(r, resp, route)
	}
	options := &openapi3filter.Options{
		IncludeResponseStatus: true, RejectWhenRequestBodyNotSpecified: true, SkipSettingDefaults: true,
		AuthenticationFunc: showsToken,
	}
	request := &openapi3filter.RequestValidationInput{Request: again(r, route.Operation), PathParams: params,
		Route: route, Options: options}
	if resp.StatusCode < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(r.Context(), request); err != nil {
			return err
		}
		for name := range r.URL.Query() {
			if name != "token" && !hasParameter(route, name) {
				return fmt.Errorf("the query's %q is not described", name)
			}
		}
	}
	return holdAnswer(request, resp)
}

// find returns the path of the document for a request. A literal path takes precedence over one with parameters. The
// route has no operation or no path item if the document has none.
func (d *described) find(r *http.Request) (*routers.Route, map[string]string) {
	route := &routers.Route{Spec: d.doc, Method: r.Method}
	var found map[string]string
	for path, item := range d.doc.Paths.Map() {
		params, ok := match(path, r.URL.EscapedPath())
		if ok && (route.PathItem == nil || len(params) < len(found)) {
			route.Path, route.PathItem, route.Operation = path, item, item.GetOperation(r.Method)
			found = params
		}
	}
	return route, found
}

// match reports whether an escaped path matches a template, and returns the parameters.
func match(template, escaped string) (params map[string]string, ok bool) {
	want, have := strings.Split(template, "/"), strings.Split(escaped, "/")
	// A tile's number has several segments, which OpenAPI cannot describe.
	if strings.HasPrefix(template, "/tile/") && len(have) > len(want) {
		have = append(have[:len(want)-1], strings.Join(have[len(want)-1:], "/"))
	}
	if len(want) != len(have) {
		return nil, false
	}
	params = map[string]string{}
	for i := range want {
		part, err := url.PathUnescape(have[i])
		switch {
		case err != nil:
			return nil, false
		case strings.HasPrefix(want[i], "{") && part != "":
			params[strings.Trim(want[i], "{}")] = part
		case want[i] != part:
			return nil, false
		}
	}
	return params, true
}

// holdUnknown validates the response to a request that is not in the document.
func (d *described) holdUnknown(r *http.Request, resp *http.Response, route *routers.Route) error {
	name, status := "NoSuchRoute", http.StatusNotFound
	if route.PathItem != nil {
		name, status = "MethodNotAllowed", http.StatusMethodNotAllowed
	}
	if resp.StatusCode != status {
		return fmt.Errorf("the document does not have it: want status %d", status)
	}
	route.Operation = &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(status,
		d.doc.Components.Responses[name]))}
	return holdAnswer(&openapi3filter.RequestValidationInput{Request: r, Route: route,
		Options: &openapi3filter.Options{}}, resp)
}

// answersHave are headers of any response.
var answersHave = []string{
	"Content-Type", "Content-Length", "Date", "Vary", "Cache-Control", "Content-Security-Policy",
	"Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Referrer-Policy", "X-Content-Type-Options",
	"X-Frame-Options",
}

// holdAnswer validates status, headers and body of a response; of a stream, which has no end, only status and headers.
// Every header must be in the document, except those that any HTTP response may have, and those that every answer has
// for browsers: safeAnswer checks them.
func holdAnswer(request *openapi3filter.RequestValidationInput, resp *http.Response) error {
	options := *request.Options
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: resp.StatusCode, Header: resp.Header, Options: &options,
	}
	ref := request.Route.Operation.Responses.Status(resp.StatusCode)
	if ref == nil {
		return errors.New("the status is not described")
	}
	for name := range resp.Header {
		// CORS headers belong to the Fetch standard, not to this API.
		if strings.HasPrefix(name, "Access-Control-") {
			continue
		}
		described := slices.Contains(answersHave, name)
		for header := range ref.Value.Headers {
			described = described || strings.EqualFold(header, name)
		}
		if !described {
			return fmt.Errorf("the header %s is not described", name)
		}
	}
	typ := resp.Header.Get("Content-Type")
	stream := typ == wire.TypeEvents
	// The type of a record may be any text, but the library only accepts media types.
	bare := ref.Value.Content["*/*"] != nil && !strings.Contains(typ, "/")
	options.ExcludeResponseBody = request.Request.Method == http.MethodHead || stream || bare
	if !options.ExcludeResponseBody {
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if err != nil {
			return err
		}
		answer.SetBodyBytes(body)
	}
	if request.Request.Method == http.MethodHead { // the library ignores the headers of these
		request.Request = request.Request.Clone(request.Request.Context())
		request.Request.Method = http.MethodGet
	}
	if err := openapi3filter.ValidateResponse(request.Request.Context(), answer); err != nil {
		return err
	}
	return holdEnvelope(request.Route.Spec, ref, resp)
}

// holdEnvelope validates the envelope of a record. The document has no schema for it, because the same response may
// also contain a payload of any type.
func holdEnvelope(doc *openapi3.T, ref *openapi3.ResponseRef, resp *http.Response) error {
	if ref.Value != doc.Components.Responses["Record"].Value || resp.Request.Method == http.MethodHead ||
		resp.Header.Get(wire.HeaderPosition) != "" {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return err
	}
	var envelope any
	if err := json.Unmarshal(body, &envelope); err != nil {
		return err
	}
	return doc.Components.Schemas["Record"].Value.VisitJSON(envelope, openapi3.EnableJSONSchema2020())
}

// again returns a copy of a request with its body unread. A body without a Content-Type counts as JSON if the route
// accepts JSON.
func again(r *http.Request, operation *openapi3.Operation) *http.Request {
	c := r.Clone(r.Context())
	if r.GetBody != nil {
		c.Body, _ = r.GetBody()
	}
	// The library accepts integers up to 2^63-1, the masters up to 2^64-1.
	query := c.URL.Query()
	for _, values := range query {
		for i, value := range values {
			if n, err := strconv.ParseUint(value, 10, 64); err == nil && n > math.MaxInt64 {
				values[i] = strconv.Itoa(math.MaxInt64)
			}
		}
	}
	c.URL.RawQuery = query.Encode()
	if body := operation.RequestBody; body != nil && r.Header.Get("Content-Type") == "" &&
		body.Value.Content["application/json"] != nil {
		c.Header.Set("Content-Type", "application/json")
	}
	return c
}

// showsToken fails for an accepted request without a token if the document requires one.
func showsToken(_ context.Context, input *openapi3filter.AuthenticationInput) error {
	r := input.RequestValidationInput.Request
	switch scheme := input.SecurityScheme; {
	case scheme.Type == "apiKey" && r.URL.Query().Get(scheme.Name) != "":
	case scheme.Type == "http" && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer "):
	default:
		return input.NewError(errors.New("no token"))
	}
	return nil
}

func hasParameter(route *routers.Route, name string) bool {
	return route.Operation.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) != nil ||
		route.PathItem.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) != nil
}

// TestDocumentHasEveryRoute checks that the document has exactly the routes of the router, except those between the
// nodes.
func TestDocumentHasEveryRoute(t *testing.T) {
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	handler := masterapi.New(masterapi.Config{Options: masterapi.Options{OpenRegistration: true, OriginalAPI: true},
		Logger: hclog.NewNullLogger()})
	var routed, written []string
	for _, r := range handler.(interface{ Routes() gin.RoutesInfo }).Routes() {
		if isAPI(r.Path) {
			routed = append(routed, r.Method+" "+templateOf(r.Path))
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			written = append(written, method+" "+path)
		}
	}
	for _, route := range routed {
		if !slices.Contains(written, route) {
			t.Errorf("%s is not in openapi.yaml", route)
		}
	}
	for _, route := range written {
		if !slices.Contains(routed, route) {
			t.Errorf("openapi.yaml has %s, and there is no such route", route)
		}
	}
}

// isAPI reports whether a path of a master belongs to the API for users. Routes between the nodes and the console's
// files do not.
func isAPI(path string) bool {
	return path != "/" && !strings.HasPrefix(path, "/console/") && !strings.HasPrefix(path, "/internal/")
}

// templateOf converts a path from gin's notation to that of OpenAPI.
func templateOf(path string) string {
	parts := strings.Split(strings.ReplaceAll(path, `\:`, "\x00"), "/")
	for i, part := range parts {
		if strings.HasPrefix(part, ":") || strings.HasPrefix(part, "*") {
			parts[i] = "{" + part[1:] + "}"
		}
	}
	return strings.ReplaceAll(strings.Join(parts, "/"), "\x00", ":")
}
