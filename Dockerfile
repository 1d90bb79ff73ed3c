# The Go version is the newest of 1.26; the least that will do stands in go.mod.
FROM golang:1.26 AS build
WORKDIR /src
# Modules first: they change seldom, so this layer is seldom made anew.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /server ./cmd/server

FROM scratch
# The upstream is reached over HTTPS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /server /server
# Not root; the number needs no user database.
USER 65532:65532
# gRPC, REST, admin
EXPOSE 9090 8080 9091
# Settings come as YUNXIN_... variables. The server listens on loopback unless
# told otherwise, so publishing a port takes a listening address as well.
# A pod gets calls until its load balancers have noticed that it is not ready.
ENV YUNXIN_SHUTDOWN_DELAY=5s
ENTRYPOINT ["/server"]
