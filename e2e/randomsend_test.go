package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	imv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/im/v1"
)

// TestRandomRequests sends random messages and compares what reached the
// upstream with what was to be said, member by member.
func TestRandomRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answerData("{}")
	rapid.Check(t, func(rt *rapid.T) {
		request := sendRequest(rt)
		text, err := protojson.Marshal(request)
		if err != nil {
			rt.Fatal(err)
		}
		o, err := r.try(t.Context(), rapid.SampledFrom(doorNames).Draw(rt, "door"), "MessageService/SendMessage", text)
		if err != nil {
			rt.Fatal(err)
		}
		sent := r.take()
		if o.status != nil || len(sent) != 1 {
			rt.Fatalf("%d requests, %v", len(sent), o)
		}
		id, err := url.PathUnescape(strings.TrimSuffix(strings.TrimPrefix(sent[0].path, "/im/v2/conversations/"), "/messages"))
		if err != nil || id != request.GetConversationId() || strings.Count(sent[0].path, "/") != 5 {
			rt.Fatalf("the path %s is not that of %s", sent[0].path, request.GetConversationId())
		}
		if request.GetMessage().GetMessageClientId() == "" {
			request.Message.MessageClientId = sent[0].header.Get("X-custom-traceid") // which is made one
		}
		if diff := cmp.Diff(wireOf(request), exact(t, sent[0].body)); diff != "" {
			rt.Fatalf("body differs (-want +have):\n%s", diff)
		}
	})
}

// sendRequest draws a request that breaks no rule.
func sendRequest(t *rapid.T) *imv1.SendMessageRequest {
	owner, peer := account.Draw(t, "owner"), account.Draw(t, "peer")
	id := fmt.Sprintf("%s|1|%s", owner, peer)
	if rapid.Bool().Draw(t, "to a team") {
		id = fmt.Sprintf("%s|%d|%d", owner, rapid.IntRange(2, 3).Draw(t, "kind"), teamID.Draw(t, "team"))
	}
	request := &imv1.SendMessageRequest{
		ConversationId:  id,
		Message:         &imv1.NewMessage{Content: sendable(t), MessageClientId: anyText.Draw(t, "message_client_id")},
		Extension:       maybe(t, "extension", anyText),
		SenderNoSense:   maybe(t, "sender_no_sense", rapid.Bool()),
		ReceiverNoSense: maybe(t, "receiver_no_sense", rapid.Just(false)),
	}
	flag := func(name string) *bool { return maybe(t, name, rapid.Bool()) }
	for _, part := range []struct {
		name string
		set  func()
	}{
		{"message_config", func() {
			request.MessageConfig = &imv1.MessageConfig{
				UnreadEnabled: flag("unread"), MultiSyncEnabled: flag("sync"), OfflineEnabled: flag("offline"),
				HistoryEnabled: flag("history"), RoamingEnabled: flag("roaming"), ConversationUpdateEnabled: flag("update"),
			}
		}},
		{"p2p_option", func() { request.P2POption = &imv1.P2POption{CheckFriend: flag("friend")} }},
		{"team_option", func() {
			request.TeamOption = &imv1.TeamOption{
				MarkAsRead: flag("receipts"), IgnoreChatBanned: flag("mute"),
				IgnoreMemberChatBanned: flag("member mute"), CheckTeamMemberValid: flag("member"),
			}
		}},
		{"superteam_option", func() {
			request.SuperteamOption = &imv1.SuperTeamOption{
				IgnoreChatBanned: flag("mute"), IgnoreMemberChatBanned: flag("member mute"), CheckTeamMemberValid: flag("member"),
			}
		}},
		{"push_config", func() { request.PushConfig = pushConfig(t) }},
		{"antispam_config", func() { request.AntispamConfig = antispamConfig(t) }},
		{"ai_params", func() { request.AiParams = aiParams(t) }},
		{"robot_config", func() {
			request.RobotConfig = &imv1.RobotConfig{RobotAccountId: maybe(t, "robot", anyText), RobotTopic: maybe(t, "topic", anyText)}
		}},
		{"route_config", func() {
			request.RouteConfig = &imv1.RouteConfig{RouteEnabled: flag("route"), RouteEnvironment: maybe(t, "environment", anyText)}
		}},
		{"target_option", func() {
			request.TargetOption = &imv1.TargetOption{
				ReceiverAccountIds: rapid.SliceOfN(account, 1, 3).Draw(t, "targets"), Inclusive: flag("inclusive"),
				CheckTeamMemberValid: flag("members"), VisibleToNewMember: flag("visible"),
			}
		}},
		{"thread_config", func() {
			request.ThreadConfig = &imv1.ThreadConfig{ThreadRoot: threadMessage(t), ThreadReply: threadMessage(t)}
		}},
	} {
		if rapid.Bool().Draw(t, part.name+" given") {
			part.set()
		}
	}
	return request
}

// jsonText draws the text of a small JSON object.
func jsonText(t *rapid.T, name string) *string {
	return maybe(t, name, rapid.Custom(func(t *rapid.T) string { return jsonObject(t, 1) }))
}

func pushConfig(t *rapid.T) *imv1.PushConfig {
	return &imv1.PushConfig{
		PushEnabled: maybe(t, "push", rapid.Bool()), PushNickEnabled: maybe(t, "nick", rapid.Bool()),
		PushContent: maybe(t, "push_content", anyText), PushPayload: jsonText(t, "push_payload"),
		PushForcepushEnable: maybe(t, "forcepush", rapid.Bool()), PushForcepushAll: maybe(t, "all", rapid.Bool()),
		PushForcepushIds:     rapid.SliceOfN(account, 0, 3).Draw(t, "forced"),
		PushForcepushContent: maybe(t, "push_forcepush_content", anyText),
	}
}

func antispamConfig(t *rapid.T) *imv1.AntispamConfig {
	return &imv1.AntispamConfig{
		AntispamEnabled: maybe(t, "antispam", rapid.Bool()), AntispamBusinessId: maybe(t, "policy", anyText),
		AntispamExtension: jsonText(t, "antispam_extension"), AntispamCheating: jsonText(t, "antispam_cheating"),
		AntispamCustomMessageEnabled: maybe(t, "antispam custom", rapid.Bool()),
		AntispamCustomMessage:        jsonText(t, "antispam_custom_message"),
	}
}

func aiParams(t *rapid.T) *imv1.AIParams {
	messages := maybe(t, "ai messages", rapid.Custom(func(t *rapid.T) string { return "[" + jsonObject(t, 1) + "]" }))
	return &imv1.AIParams{
		Account: maybe(t, "ai account", anyText), Content: jsonText(t, "ai content"), Messages: messages,
		PromptVariables: jsonText(t, "ai variables"), Config: jsonText(t, "ai config"), SendOriginal: maybe(t, "original", rapid.Bool()),
	}
}

func threadMessage(t *rapid.T) *imv1.MessageReference {
	return &imv1.MessageReference{
		SenderId: new(account.Draw(t, "thread sender")), ReceiverId: new(account.Draw(t, "thread receiver")),
		CreateTime: instant(t, "thread time"), MessageServerId: rapid.Int64Range(1, 1<<63-1).Draw(t, "thread id"),
		MessageClientId: new(someText.Draw(t, "thread client id")),
	}
}

// sendable draws what a caller may say.
func sendable(t *rapid.T) *imv1.MessageContent {
	kind := rapid.SampledFrom([]int{0, 1, 2, 3, 4, 6, 10, 100}).Draw(t, "message_type")
	c := &imv1.MessageContent{}
	switch kind {
	case 0:
		c.Kind = &imv1.MessageContent_Text{Text: someText.Draw(t, "text")}
	case 10:
		c.Kind = &imv1.MessageContent_Tip{Tip: someText.Draw(t, "tip")}
	case 4:
		_, extra := maybeExtra(t)
		longitude, latitude := rapid.Float64Range(-180, 180).Draw(t, "lng"), rapid.Float64Range(-90, 90).Draw(t, "lat")
		c.Kind = &imv1.MessageContent_Location_{Location: &imv1.MessageContent_Location{
			Title: maybe(t, "title", anyText), Longitude: &longitude, Latitude: &latitude, Extra: extra,
		}}
	case 100:
		c.Kind = &imv1.MessageContent_Custom{Custom: jsonObject(t, 3)}
	default:
		c, _ = attachment(drift{t}, kind)
	}
	if kind != 0 && kind != 10 {
		c.Description = maybe(t, "description", anyText)
	}
	c.SubType = maybe(t, "sub_type", rapid.Int32Range(1, 1<<31-1))
	return c
}

// tree is JSON as exact parses it.
type tree = map[string]any

// wireOf says how a request should look to the upstream, written from its
// documentation.
func wireOf(r *imv1.SendMessageRequest) tree {
	message := contentTree(r.GetMessage().GetContent())
	if id := r.GetMessage().GetMessageClientId(); id != "" {
		message["message_client_id"] = id
	}
	body := tree{"message": message}
	put(body, "extension", r.Extension)
	put(body, "sender_no_sense", r.SenderNoSense)
	put(body, "receiver_no_sense", r.ReceiverNoSense)
	for name, options := range map[string]proto.Message{
		"message_config": r.GetMessageConfig(), "push_config": r.GetPushConfig(), "route_config": r.GetRouteConfig(),
		"antispam_config": r.GetAntispamConfig(), "p2p_option": r.GetP2POption(), "team_option": r.GetTeamOption(),
		"superteam_option": r.GetSuperteamOption(), "target_option": r.GetTargetOption(),
		"robot_config": r.GetRobotConfig(), "ai_params": r.GetAiParams(),
	} {
		if options.ProtoReflect().IsValid() {
			body[name] = optionsTree(options)
		}
	}
	if thread := r.GetThreadConfig(); thread != nil {
		body["thread_config"] = tree{"thread_root": threadTree(thread.GetThreadRoot()), "thread_reply": threadTree(thread.GetThreadReply())}
	}
	return body
}

// optionsTree is for messages of booleans, texts and lists of texts, which have
// the same JSON everywhere but for one misspelling of the upstream.
func optionsTree(options proto.Message) tree {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(options)
	if err != nil {
		panic(err)
	}
	var t tree
	if err := json.Unmarshal(text, &t); err != nil {
		panic(err)
	}
	if sync, ok := t["multi_sync_enabled"]; ok {
		delete(t, "multi_sync_enabled")
		t["mutil_sync_enabled"] = sync
	}
	return t
}

func threadTree(m *imv1.MessageReference) tree {
	return tree{
		"sender_id": m.GetSenderId(), "receiver_id": m.GetReceiverId(), "message_client_id": m.GetMessageClientId(),
		"create_time": epoch(m.GetCreateTime()), "message_server_id": digits(m.GetMessageServerId()),
	}
}

func contentTree(c *imv1.MessageContent) tree {
	t := tree{}
	put(t, "text", c.Description)
	putNumber(t, "sub_type", c.SubType)
	switch kind := c.GetKind().(type) {
	case *imv1.MessageContent_Text:
		t["message_type"], t["text"] = digits(0), kind.Text
	case *imv1.MessageContent_Image_:
		i := kind.Image
		t["message_type"], t["attachment"] = digits(1), fileTree(i.Name, i.Md5, i.GetUrl(), i.Ext, i.Size, i.Extra, nil, i.Width, i.Height)
	case *imv1.MessageContent_Audio_:
		a := kind.Audio
		t["message_type"], t["attachment"] = digits(2), fileTree(nil, a.Md5, a.GetUrl(), a.Ext, a.Size, a.Extra, a.DurationMs, nil, nil)
	case *imv1.MessageContent_Video_:
		v := kind.Video
		t["message_type"], t["attachment"] = digits(3), fileTree(v.Name, v.Md5, v.GetUrl(), v.Ext, v.Size, v.Extra, v.DurationMs, v.Width, v.Height)
	case *imv1.MessageContent_Location_:
		l := kind.Location
		place := extended(l.Extra)
		put(place, "title", l.Title)
		place["lng"], place["lat"] = decimal(l.GetLongitude()), decimal(l.GetLatitude())
		t["message_type"], t["attachment"] = digits(4), place
	case *imv1.MessageContent_File_:
		f := kind.File
		t["message_type"], t["attachment"] = digits(6), fileTree(f.Name, f.Md5, f.GetUrl(), f.Ext, f.Size, f.Extra, nil, nil, nil)
	case *imv1.MessageContent_Tip:
		t["message_type"], t["text"] = digits(10), kind.Tip
	case *imv1.MessageContent_Custom:
		t["message_type"], t["attachment"] = digits(100), parsed(kind.Custom)
	}
	return t
}

func fileTree(name, md5 *string, url string, ext *string, size *int64, extra *string, dur *int64, w, h *int32) tree {
	t := extended(extra)
	t["url"] = url
	put(t, "name", name)
	put(t, "md5", md5)
	put(t, "ext", ext)
	putNumber(t, "size", size)
	putNumber(t, "dur", dur)
	putNumber(t, "w", w)
	putNumber(t, "h", h)
	return t
}

// extended begins an attachment with its further members.
func extended(extra *string) tree {
	if extra == nil {
		return tree{}
	}
	object, _ := parsed(*extra).(tree) // as maybeExtra made it
	return object
}

func decimal(x float64) json.Number {
	number, err := json.Marshal(x)
	if err != nil {
		panic(err)
	}
	return json.Number(number)
}

func put[V any](t tree, name string, value *V) {
	if value != nil {
		t[name] = *value
	}
}

func putNumber[N int32 | int64](t tree, name string, n *N) {
	if n != nil {
		t[name] = digits(int64(*n))
	}
}

func digits(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

func epoch(ts *timestamppb.Timestamp) json.Number { return digits(ts.AsTime().UnixMilli()) }

func parsed(text string) any {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	return v
}
