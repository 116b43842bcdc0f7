// Package console serves the web console: a page of static files that calls the API of the masters. There is no build
// step and no library in it; a browser loads the modules as they are in this folder.
package console
