package sandbox

import (
	"net/url"
	"slices"
	"strings"
)

// livenessPath is what the vendor's SDKs probe before they use an endpoint.
const livenessPath = "/health/liveness.action"

// sdkPrefix stands before every path in the base URLs the vendor's SDKs use.
// It is accepted and has no meaning.
const sdkPrefix = "/nimserver"

// operation is one API of the upstream, whichever methods and versions reach it.
type operation struct {
	methods string // separated by a space where the sources disagree
	path    string // below the version
	traits  trait
	handle  handler
}

type trait int

const (
	write trait = 1 << iota // changes the state, so its answers are kept by trace id
	newer                   // also exists under /im/v2.1/
)

func (op *operation) is(t trait) bool { return op.traits&t != 0 }

// handler decodes a call's input and returns what remains to be run with the
// state locked.
type handler func(*input) (run func(*call) (any, *refusal), bad *refusal)

// handle adapts an operation written for its own request type.
func handle[Req any](op func(*call, *Req) (any, *refusal)) handler {
	return func(in *input) (func(*call) (any, *refusal), *refusal) {
		req := new(Req)
		if bad := in.decode(req); bad != nil {
			return nil, bad
		}
		return func(c *call) (any, *refusal) { return op(c, req) }, nil
	}
}

var operations = []operation{
	{"POST", "conversations", write | newer, handle(createConversation)},
	{"GET", "conversations", newer, handle(listConversations)},
	{"GET", "conversations/{conversation_id}", newer, handle(getConversation)},
	{"PATCH", "conversations/{conversation_id}", write, handle(updateConversation)},
	{"DELETE", "conversations/{conversation_id}", write, handle(deleteConversation)},
	{"GET POST", "conversations/actions/conversation_ids", newer, handle(batchGetConversations)},
	{"DELETE", "conversations/actions/conversation_ids", write, handle(batchDeleteConversations)},
	{"POST PATCH", "conversations/{conversation_id}/actions/stick_top_conversation", write, handle(pinConversation)},
	{"PATCH", "conversations/{conversation_id}/actions/clear_conversation_unread", write, handle(clearUnread)},
	{"GET", "conversation_overviews/{account_id}", 0, handle(getTotalUnread)},

	{"POST", "conversation_groups", write, handle(createGroup)},
	{"GET", "conversation_groups", 0, handle(listGroups)},
	{"GET", "conversation_groups/{group_id}", 0, handle(getGroup)},
	{"PATCH", "conversation_groups/{group_id}", write, handle(updateGroup)},
	{"DELETE", "conversation_groups/{group_id}", write, handle(deleteGroup)},
	{"GET", "conversation_groups/actions/group_ids", 0, handle(batchGetGroups)},
	{"GET", "conversation_groups/{group_id}/conversations", 0, handle(listGroupConversations)},

	{"POST", "conversations/{conversation_id}/messages", write, handle(sendMessage)},
	{"POST", "conversations/messages", write, handle(batchSendMessages)},
	{"POST", "conversations/{conversation_id}/messages/actions/stream_message", write, handle(sendStreamPiece)},
	{"POST", "messages/actions/modifyMsg", write, handle(modifyMessage)},
	{"DELETE", "conversations/{conversation_id}/messages/{message_server_id}", write, handle(recallMessage)},
	{"DELETE", "conversations/{conversation_id}/messages", write, handle(clearMessages)},

	{"GET", "conversations/{conversation_id}/messages/{message_server_id}", newer, handle(getMessage)},
	{"GET", "conversations/{conversation_id}/messages", newer, handle(listMessages)},
	{"POST", "conversations/{conversation_id}/batch_messages", newer, handle(batchGetMessages)},
	{"GET", "messages/actions/thread_messages", newer, handle(listThread)},
	{"GET", "messages/actions/search_messages", newer, handle(searchMessages)},

	{"POST", "messages/actions/p2p_read_receipt", write, handle(sendP2PReceipt)},
	{"POST", "messages/actions/team_read_receipt", write, handle(sendTeamReceipts)},
	{"GET", "messages/actions/team_read_receipt", 0, handle(getTeamReceipt)},

	{"PATCH", "messages/actions/quick_comment", write, handle(addQuickComment)},
	{"DELETE", "messages/actions/quick_comment", write, handle(deleteQuickComment)},
	{"POST", "messages/actions/quick_comment", 0, handle(queryQuickComments)},

	{"POST", "chatrooms/{room_id}/messages", write, handle(sendRoomMessage)},
	{"POST", "chatrooms/messages", write, handle(batchSendRoomMessages)},
	{"DELETE", "chatrooms/{room_id}/messages/{message_client_id}", write, handle(recallRoomMessage)},
	{"GET", "chatrooms/{room_id}/messages", newer, handle(listRoomMessages)},
}

// route is one method and path at which an operation can be reached.
type route struct {
	*operation
	method   string
	pattern  string
	segments []string
	v21      bool
}

// String is the route as Routes, Fault.Route and Entry.Route spell it.
func (r *route) String() string { return r.method + " " + r.pattern }

var routes = expand(operations)

func expand(ops []operation) []*route {
	var all []*route
	for i := range ops {
		op := &ops[i]
		for version, v21 := range map[string]bool{"/im/v2/": false, "/im/v2.1/": true} {
			if v21 && !op.is(newer) {
				continue
			}
			for method := range strings.FieldsSeq(op.methods) {
				pattern := version + op.path
				all = append(all, &route{
					operation: op,
					method:    method,
					pattern:   pattern,
					segments:  strings.Split(pattern, "/"),
					v21:       v21,
				})
			}
		}
	}
	slices.SortFunc(all, func(a, b *route) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// Routes returns "METHOD /im/v2/path/{param}" of every operation, sorted.
func (s *Sandbox) Routes() []string {
	names := make([]string, len(routes))
	for i, r := range routes {
		names[i] = r.String()
	}
	return names
}

// sentPath is the path with the client's own percent-encoding. URL.EscapedPath
// alone would not do: when the client left a "|" bare it encodes the decoded
// path anew, and an encoded slash inside an id would become a real one.
func sentPath(u *url.URL) string {
	path := u.RawPath
	if path == "" {
		path = u.EscapedPath()
	}
	if rest, ok := strings.CutPrefix(path, sdkPrefix+"/"); ok {
		return "/" + rest
	}
	return path
}

// match finds the route of a path and its decoded parameters. http.ServeMux is
// not used because it answers "..", "." and empty segments with a redirect to
// the cleaned path, and all of them can be part of an id here. No two patterns
// fit the same path, so the order of routes does not matter.
func match(method, path string) (*route, map[string]string, bool) {
	segments := strings.Split(path, "/")
	for _, r := range routes {
		if r.method != method || len(r.segments) != len(segments) {
			continue
		}
		if params, ok := r.params(segments); ok {
			return r, params, true
		}
	}
	return nil, nil, false
}

func (r *route) params(segments []string) (map[string]string, bool) {
	params := map[string]string{}
	for i, want := range r.segments {
		name, isParam := strings.CutPrefix(want, "{")
		if !isParam {
			if segments[i] != want {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil {
			return nil, false
		}
		params[strings.TrimSuffix(name, "}")] = value
	}
	return params, true
}
